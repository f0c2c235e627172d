"""Ports for tests' servers that nobody else takes between choosing one and listening on it."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from touchpoint.local.process import HOST

RANGE = range(12_000, 20_000)
"""Far below the ports that systems give to outgoing connections (Linux: from 32768; IANA: from 49152)."""
_FOLDER = Path(tempfile.gettempdir()) / f"touchpoint-test-ports-{os.getuid()}"

_held: list[IO[str]] = []
"""The locks on the ports of this process; they go with it."""


def reserve(count: int) -> list[int]:
    """Ports nobody listens on, and that no other test run on this machine gets while this process lives."""
    _FOLDER.mkdir(exist_ok=True)
    found: list[int] = []
    while len(found) < count:
        port = random.choice(RANGE)  # noqa: S311 # to meet others seldom, not to be unguessable
        if _is_free(port):
            found.append(port)
    return found


def reserve_base(distances: Iterable[int]) -> int:
    """A port from which those at these distances are reserved as well."""
    wanted = list(distances)
    while True:
        base = random.choice(RANGE)  # noqa: S311 # to meet others seldom, not to be unguessable
        if all(_is_free(base + distance) for distance in wanted):
            return base


def _is_free(port: int) -> bool:
    lock = (_FOLDER / str(port)).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        socket.create_server((HOST, port)).close()
    except OSError:
        lock.close()
        return False
    _held.append(lock)
    return True
