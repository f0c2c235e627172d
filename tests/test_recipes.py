"""Apply the recipes of CONTRIBUTING.md to a copy of the project, and run its checks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEMBERS = ["shared", *(f"services/{name}" for name in ("feedback-svc", "escalation-svc", "metrics-svc", "gateway"))]
BLOCK = re.compile(r"^(?:`(?P<path>[^`\n]+)`\n\n)?```(?P<kind>python|yaml|diff)\n(?P<text>.*?)^```$", re.M | re.S)
EMPTY = re.compile(r"^`(?P<path>[^`\n]+)`: an empty file$", re.M)
BIN = Path(sys.executable).parent
CHECKS = {
    "style": [BIN / "ruff", "check"],
    "format": [BIN / "ruff", "format", "--check"],
    "rooms": [BIN / "lint-imports"],
    "documents": [sys.executable, "docs/generate.py"],
    "types": [BIN / "mypy", "-p", "feedback_svc"],
    "tests": [
        BIN / "pytest", "-q", "-p", "no:cacheprovider", "services/feedback-svc/tests/visits", "tests/test_tenants.py",
        "services/feedback-svc/tests/timeline/test_service.py", "services/feedback-svc/tests/test_verify.py",
        "tests/test_migrations.py", "services/gateway/tests/test_openapi.py",
        "tests/deploy/kubernetes/test_workloads.py",
        "-k", "visit or feedback_svc or title or role or connections or test_verify",
    ],
}  # fmt: skip


def follow(recipes: str, copy: Path) -> None:
    """Write the files and apply the patches that a text contains."""
    for empty in EMPTY.finditer(recipes):
        _write(copy / empty["path"], "")
    for block in BLOCK.finditer(recipes):
        if block["kind"] == "diff":
            subprocess.run(["git", "apply", "-"], cwd=copy, input=block["text"], text=True, check=True)
        else:
            assert block["path"], f"a block names no file: {block['text'][:80]}"
            _write(copy / block["path"], block["text"])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's files."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.splitlines()):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    if (cache := ROOT / ".mypy_cache").is_dir():  # saves mypy the modules that the recipes do not change
        shutil.copytree(cache, tmp_path / cache.name)
    return tmp_path


def test_each_recipe_leaves_a_project_that_passes_its_checks(copy, servers):
    follow((ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes")[2], copy)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(copy / member) for member in MEMBERS),
        "MYPYPATH": os.pathsep.join(str(copy / member) for member in MEMBERS),
        "DATABASE_URL": servers.dsn,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap_servers,
    }
    for name, command in CHECKS.items():
        ended = subprocess.run(command, check=False, cwd=copy, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{name}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}"
