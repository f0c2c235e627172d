"""Every test of the workspace can use the fixtures that ship with touchpoint."""

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["touchpoint.testing.fixtures"]

settings.register_profile("untimed", deadline=None)  # durations depend on the machine's load
settings.load_profile("untimed")

TOGETHER = ("tests/secured/", "tests/deploy/")
"""Folders whose test files share servers that are slow to start; xdist runs each in one process."""


class FilesAndFolders(LoadScopeScheduling):
    """Keeps a file's tests, and those of such a folder, in one of the processes that share the work."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if path.startswith(folder)), path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesAndFolders:
    """The scheduler that assigns tests to xdist processes."""
    return FilesAndFolders(config, log)
