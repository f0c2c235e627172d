"""Every test of the workspace can use the fixtures that ship with touchpoint."""

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["touchpoint.testing.fixtures"]

settings.register_profile("untimed", deadline=None)  # how long a test takes says how busy the machine is
settings.load_profile("untimed")

ROOT = Path(__file__).parent
TOGETHER = ("tests/secured", "tests/deploy")
"""Folders whose files share what takes long to start."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests, and those of such a folder, in one of the processes that share the work."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(next((folder for folder in TOGETHER if path.startswith(folder)), path)))
