"""Who works here, as the trail has it."""

import socket

from touchpoint.reach import operator


def test_a_user_without_a_name_is_told_by_number_unless_logname_says_who_it_is(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_001)
    assert operator() == f"2000000001@{socket.gethostname()}"
    monkeypatch.setenv("LOGNAME", "ada")
    assert operator() == f"ada@{socket.gethostname()}"
