"""Reads a file record by record in constant memory: CSV, JSON (a list of any length), JSON Lines, each also gzipped."""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from touchpoint.base.errors import UsageError
from touchpoint.importer.json_list import MAX_RECORD, JsonList
from touchpoint.importer.mapping import Mapping

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the file and the line it begins on. If it is unreadable, `problem` is why, `data` its raw text."""

    line: int
    data: Any
    problem: str | None = None


class Records:
    """The records of a file. Iterating raises UsageError with the line where the file itself is broken."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self.mapping = mapping
        self.path = path
        self.format = mapping.format or _FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
        if self.format is None:
            raise UsageError(f"{path.name}: not .csv, .json or .jsonl; name its format in the mapping")
        try:
            self._raw: BinaryIO = path.open("rb")
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        self.size = os.fstat(self._raw.fileno()).st_size
        gzipped = self._raw.read(2) == _GZIP
        self._raw.seek(0)
        self._bytes: Any = gzip.GzipFile(fileobj=self._raw) if gzipped else self._raw
        self._line = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    @property
    def position(self) -> int:
        """Bytes of the file read so far, for a progress bar."""
        return min(self._raw.tell(), self.size)

    def __iter__(self) -> Iterator[Record]:
        read: dict[str, Callable[[], Iterator[Record]]] = {"csv": self._csv, "json": self._json, "jsonl": self._lines}
        try:
            yield from read[self.format or ""]()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{self.path.name}: damaged or cut off after line {self._line}: {error}") from None

    def _csv(self) -> Iterator[Record]:
        csv.field_size_limit(MAX_RECORD)
        rows = csv.reader(self._text(self.mapping.csv.encoding), delimiter=self.mapping.csv.delimiter, strict=True)
        try:
            header = [name.strip() for name in next(rows, [])]
            self._check_columns(header)
            self._line = rows.line_num + 1
            for row in rows:
                if row:
                    yield self._row(header, row)
                self._line = rows.line_num + 1
        except csv.Error as error:
            raise UsageError(f"{self.path.name}: line {self._line} is not CSV: {error}") from None

    def _row(self, header: list[str], row: list[str]) -> Record:
        if len(row) != len(header):
            return Record(self._line, row, f"has {len(row)} columns, the header has {len(header)}")
        return Record(self._line, {name: value.strip() or None for name, value in zip(header, row, strict=True)})

    def _check_columns(self, header: list[str]) -> None:
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise UsageError(f"{self.path.name}: two columns are named {twice[0]!r}")
        missing = sorted(self.mapping.columns() - set(header))
        if missing:
            raise UsageError(f"{self.path.name} has no column {', '.join(missing)}; it has {', '.join(header)}")

    def _json(self) -> Iterator[Record]:
        for line, data in JsonList(self._text("utf-8-sig"), self.path.name, self.mapping.records):
            self._line = line
            yield Record(line, data)

    def _lines(self) -> Iterator[Record]:
        while line := self._bytes.readline(MAX_RECORD):
            if len(line) == MAX_RECORD:
                raise UsageError(f"{self.path.name}: line {self._line} is longer than {MAX_RECORD} bytes")
            line = line.removeprefix(b"\xef\xbb\xbf") if self._line == 1 else line
            if line.strip():
                yield self._json_line(line)
            self._line += 1

    def _json_line(self, line: bytes) -> Record:
        try:
            return Record(self._line, json.loads(line, parse_constant=str))
        except (ValueError, RecursionError) as error:
            shown = line.decode(errors="replace").strip()
            return Record(self._line, shown, f"is not JSON: {error}")

    def _text(self, encoding: str) -> io.TextIOWrapper:
        """Text in which undecodable bytes become surrogates: the record that holds them is refused, not the file."""
        try:
            # Kept in an attribute: a wrapper that is garbage collected closes the file.
            self._decoded = io.TextIOWrapper(self._bytes, encoding, errors="surrogateescape", newline="")
        except LookupError:
            raise UsageError(f"the mapping's csv.encoding {encoding!r} is unknown") from None
        return self._decoded
