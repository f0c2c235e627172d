"""The files and tests that the documents refer to exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = [path for folder in ("shared/tests", "services", "tests") for path in (ROOT / folder).rglob("test_*.py")]


def test_every_test_that_the_security_notes_name_exists():
    written = {name for path in TESTS for name in re.findall(r"def (test_\w+)", path.read_text())}
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 30
    assert named - written == set()


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/reliability.md", "docs/security.md", "docs/adr/README.md"],
)
def test_every_file_a_document_links_to_exists(document):
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []
