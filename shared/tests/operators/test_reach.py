"""The operator's name for the audit trail, and the local stack that commands find."""

import socket

import pytest

from touchpoint.base.errors import UsageError
from touchpoint.local.home import Home
from touchpoint.operators.reach import kafka, operator


def test_a_user_without_a_name_is_identified_by_uid_or_by_logname(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_001)
    assert operator() == f"2000000001@{socket.gethostname()}"
    monkeypatch.setenv("LOGNAME", "ada")
    assert operator() == f"ada@{socket.gethostname()}"


def test_the_error_about_a_stack_of_an_older_version_says_how_to_stop_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TOUCHPOINT_DATA", str(tmp_path))
    Home(tmp_path).record({"state": "ready", "kafka": "127.0.0.1:9092", "processes": {"kafka": {}}})
    with pytest.raises(UsageError, match="older version of Touchpoint runs here: stop it with `touchpoint down`"):
        kafka()
