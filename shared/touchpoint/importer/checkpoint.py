"""The progress of an import, in a file beside the imported one: written after each acknowledged batch.

The file is deleted at the end of the import. If the process is killed between the acknowledgement and the write, the
batch is sent again with the same event ids, so that no event is applied twice.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from touchpoint.base.errors import UsageError

_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts so far: records read, events accepted, records and events refused; the rejects file's size in bytes."""

    records: int = 0
    accepted: int = 0
    refused: int = 0
    rejects_bytes: int = 0


class Checkpoint:
    """The progress file and the rejects file of one import.

    If file, mapping or gateway have changed since the progress file was written, the import starts from the beginning.
    """

    def __init__(self, file: Path, mapping: Path, gateway: str) -> None:
        self.rejects = file.with_name(f"{file.name}.rejects.jsonl")
        self._path = file.with_name(f"{file.name}.import.json")
        self._key = _identity(file, mapping, gateway)
        self.progress = self._load()
        self._rejects: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._save()
            self._rejects = self.rejects.open("r+b" if self.progress.rejects_bytes else "wb")
        except OSError as error:
            raise UsageError(f"cannot write beside the file ({error.strerror}: {error.filename}): move it") from None
        self._rejects.truncate(self.progress.rejects_bytes)
        self._rejects.seek(self.progress.rejects_bytes)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._rejects is not None
        self._rejects.close()
        if not self.progress.rejects_bytes:
            self.rejects.unlink()

    def advance(self, records: int, accepted: int, rejects: Iterable[dict[str, Any]]) -> None:
        """Store (with fsync) that the first `records` records are done: first the rejects, then the new progress.

        Rejects written without their progress are cut off at the next start.
        """
        assert self._rejects is not None
        lines = [json.dumps(reject, ensure_ascii=False).encode(errors="replace") + b"\n" for reject in rejects]
        self._rejects.writelines(lines)
        self._rejects.flush()
        os.fsync(self._rejects.fileno())
        self.progress = Progress(
            records=records,
            accepted=self.progress.accepted + accepted,
            refused=self.progress.refused + len(lines),
            rejects_bytes=self._rejects.tell(),
        )
        self._save()

    def finish(self) -> None:
        """Delete the progress file: the next import of the same file starts from the beginning."""
        self._path.unlink()

    def _load(self) -> Progress:
        try:
            stored = json.loads(self._path.read_text())
            if stored.pop("key") != self._key:
                return Progress()
            progress = Progress(**stored)
            lost = progress.rejects_bytes and self.rejects.stat().st_size < progress.rejects_bytes
            return Progress() if lost else progress
        except (OSError, ValueError, KeyError, TypeError):
            return Progress()

    def _save(self) -> None:
        written = self._path.with_name(f"{self._path.name}.new")
        with written.open("w") as file:
            json.dump({"key": self._key, **asdict(self.progress)}, file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path)


def _identity(file: Path, mapping: Path, gateway: str) -> str:
    """A hash that identifies an import: its file (size, mtime, first 64 KiB), its mapping and the gateway's URL."""
    stat = file.stat()
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    parts = [f"{stat.st_size}:{stat.st_mtime_ns}:{gateway}".encode(), head, mapping.read_bytes()]
    return hashlib.sha256(b"\x00".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
