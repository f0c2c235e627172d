"""The verdict of CI's audit on the advisories for the locked dependencies."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def audit():
    spec = spec_from_file_location("audit", Path(__file__).parents[1] / ".ci" / "audit.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WELL = {"name": "fine", "version": "1.0", "vulns": []}
SICK = {
    "name": "sick", "version": "2.4.1",
    "vulns": [{"id": "PYSEC-2019-217", "aliases": ["CVE-2019-10906"], "fix_versions": ["2.10.1"]}],
}  # fmt: skip
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}


def test_dependencies_without_advisories_pass(audit):
    assert audit.verdict([WELL, WELL]) == (0, ["No known vulnerability in 2 dependencies."])


def test_a_known_vulnerability_fails_and_names_its_fix(audit):
    code, lines = audit.verdict([WELL, SICK, UNKNOWN])
    assert code == 1
    assert lines[0] == "sick 2.4.1: PYSEC-2019-217, fixed in 2.10.1"


def test_an_advisory_accepted_by_an_alias_passes(audit, monkeypatch):
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-2019-10906": "we do not sandbox templates"})
    assert audit.verdict([SICK])[0] == 0


@pytest.mark.parametrize("dependencies", [[], [UNKNOWN], [UNKNOWN, UNKNOWN]])
def test_an_audit_without_any_answer_passes_with_a_loud_warning(audit, dependencies):
    code, [line] = audit.verdict(dependencies)
    assert (code, line.split(".")[0]) == (0, "WARNING: NOT AUDITED")


def test_a_dependency_unknown_to_pypi_is_reported(audit):
    assert "not audited, unknown to PyPI: ours" in audit.verdict([WELL, UNKNOWN])[1][0]
