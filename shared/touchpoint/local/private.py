"""Folders and files that no other user of the machine can read, whatever the umask is."""

import os
from collections.abc import Collection
from pathlib import Path

from touchpoint.base.errors import UsageError


def make_folder(path: Path, owners: Collection[int] = ()) -> None:
    """Make a folder that only its owner can enter; one that exists already is closed to everybody else.

    Raises UsageError when it exists and is neither ours nor that of `owners` (user ids): somebody may have put it
    there for us to fill.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid not in {os.getuid(), *owners}:
        raise UsageError(f"{path} belongs to another user: remove it, or set TOUCHPOINT_DATA to another folder")
    path.chmod(0o700)


def make_passage(path: Path) -> None:
    """Make a folder, and those above it, that other users can walk through and not list; leave those that exist."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o711)


def write(path: Path, content: str) -> None:
    """Write a file for its owner alone."""
    with open(path, "w", opener=open_private) as file:
        os.fchmod(file.fileno(), 0o600)  # it may have existed, and been open to others
        file.write(content)


def open_private(path: str, flags: int) -> int:
    """As `open`'s argument `opener`: a file made by it is for its owner alone."""
    return os.open(path, flags, 0o600)
