"""The alert rules: promtool accepts them, tests show when each fires and when not, each links to a runbook page."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.foreign import program

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERTS = [
    rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_its_rules():
    run(program("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")


def test_amtool_accepts_the_configuration():
    run(program("amtool"), "check-config", PROMETHEUS / "alertmanager.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rule_tests_pass(path):
    run(program("promtool"), "test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_severity_a_summary_a_description_and_a_runbook_page(alert):
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["for"]
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert (ROOT / alert["annotations"]["runbook_url"]).is_file()


@pytest.mark.parametrize("name", [alert["alert"] for alert in ALERTS])
def test_each_alert_has_a_rule_test_that_it_fires_and_one_that_it_does_not(name):
    asked = [
        "exp_samples" in each
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for each in test["promql_expr_test"]
        if f'alertname="{name}"' in each["expr"]
    ]
    assert set(asked) == {True, False}
