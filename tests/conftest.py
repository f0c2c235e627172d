"""Fixtures that run whole systems: all services, as users deploy them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from touchpoint.testing.servers import Servers
from touchpoint.testing.system import SERVICES, TOGETHER, System

Running = Callable[..., AbstractAsyncContextManager[System]]


@pytest.fixture(scope="session")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A context manager that runs all services on topics and databases of their own.

    `policies` is the text of escalation-svc's policy file, by default the shipped one; keyword arguments are further
    settings. A service's roles run in one process, or with `apart` each in its own.
    """

    @asynccontextmanager
    async def run(policies: str | None = None, *, apart: bool = False, **settings: str) -> AsyncIterator[System]:
        if policies is not None:
            file = tmp_path_factory.mktemp("policies") / "policies.yaml"
            file.write_text(policies)
            settings["POLICIES_PATH"] = str(file)
        roles = SERVICES if apart else TOGETHER
        system = System(servers, tmp_path_factory.mktemp("system"), settings, roles=roles)
        try:
            await system.start()
            yield system
        finally:
            await system.stop()

    return run


@pytest.fixture(scope="module")
async def system(running: Running) -> AsyncIterator[System]:
    """A running system for each test file; a file that needs other settings overrides this fixture."""
    async with running() as started:
        yield started
