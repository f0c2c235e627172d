"""The folder of a stack: one supervisor at a time, secrets only for its user, cleanup after a killed supervisor."""

import os
import stat
import sys
from pathlib import Path

import pytest

from touchpoint.base.errors import UsageError
from touchpoint.local.home import Home
from touchpoint.local.process import Process, Program


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_second_supervisor_is_refused_until_the_first_has_ended(home: Home) -> None:
    with home.owned(), pytest.raises(UsageError, match="already running here"), home.owned():
        pass
    with home.owned():
        pass


def test_only_the_owner_can_read_the_secrets_file(home: Home) -> None:
    with home.owned():
        home.keep_secret(token="one")
        home.keep_secret(api_key="two")
    assert home.secrets() == {"token": "one", "api_key": "two"}
    assert stat.S_IMODE((home.folder / "secrets.json").stat().st_mode) == 0o600


def test_forget_deletes_data_and_secrets_and_keeps_logs(home: Home) -> None:
    with home.owned():
        home.keep_secret(token="one")
        for path in ("kafka/data/log", "postgres/PG_VERSION", "logs/gateway.log", "sample.json"):
            (home.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (home.folder / path).touch()
        home.forget()
    assert home.secrets() == {}
    assert sorted(path.name for path in home.folder.rglob("*") if path.is_file()) == ["gateway.log", "lock"]


async def test_processes_of_a_killed_supervisor_are_stopped(home: Home) -> None:
    with home.owned():
        program = Program(
            "gateway", [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), home.logs / "l"
        )
        gone, left = program.start(), program.start()
        await gone.stop()
        records = {"supervisor": Process(gone.handle).record(), "gateway": left.record()}
        home.record({"processes": records})
        assert list(home.processes()) == ["gateway"]
        await home.stop_processes()
    assert not left.alive()
    assert home.recorded() == {}
