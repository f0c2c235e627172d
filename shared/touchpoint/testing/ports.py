"""Reserve ports for servers of tests, so that no other test run takes a port before the server listens on it."""

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
"""Below the ephemeral ports of outgoing connections (Linux: from 32768; IANA: from 49152)."""
_FOLDER = Path(tempfile.gettempdir()) / f"touchpoint-test-ports-{os.getuid()}"

_held: list[IO[str]] = []
"""The file locks on the ports of this process, which end with it."""


def reserve(count: int) -> list[int]:
    """Free ports that no other test run on this machine gets while this process lives."""
    _FOLDER.mkdir(exist_ok=True)
    reserved: list[int] = []
    while len(reserved) < count:
        port = random.choice(RANGE)  # noqa: S311 # to avoid collisions, not to be unguessable
        if _is_free(port):
            reserved.append(port)
    return reserved


def reserve_base(distances: Iterable[int]) -> int:
    """A base port such that the ports at these distances from it are free; these are reserved."""
    wanted = list(distances)
    while True:
        base = random.choice(RANGE)  # noqa: S311 # to avoid collisions, not to be unguessable
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
