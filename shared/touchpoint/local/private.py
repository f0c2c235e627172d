"""Folders and files that no other user of the machine can read, whatever the umask is."""

import os
from collections.abc import Collection
from pathlib import Path

from touchpoint.base.errors import UsageError


def make_folder(path: Path, owners: Collection[int] = ()) -> None:
    """Create a folder that only its owner can enter; if it exists, remove other users' access to it.

    Raises UsageError if it exists and belongs neither to this user nor to one of `owners` (user ids): another user may
    have created it in order to read what this process writes to it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid not in {os.getuid(), *owners}:
        raise UsageError(f"{path} belongs to another user: remove it, or set TOUCHPOINT_DATA to another folder")
    path.chmod(0o700)


def make_passage(path: Path) -> None:
    """Create a folder and its missing parents; other users can enter, but not list them."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o711)


def write(path: Path, content: str) -> None:
    """Write a file that only its owner can read."""
    with open(path, "w", opener=open_private) as file:
        os.fchmod(file.fileno(), 0o600)  # an existing file may have been readable by others
        file.write(content)


def open_private(path: str, flags: int) -> int:
    """For `open`'s argument `opener`: only its owner can read a file that this creates."""
    return os.open(path, flags, 0o600)
