"""Reads the items of a JSON list of any length in constant memory.

The decoder of the standard library is applied to a sliding window of the text. This is faster than a token parser and
gives the line of each item; each single item must fit into memory.
"""

import json
from collections.abc import Iterator
from typing import Any, TextIO

from touchpoint.base.errors import UsageError

MAX_RECORD = 16 * 2**20
"""Maximum length of a record in characters (of JSON Lines: in bytes)."""

_CHUNK = 2**18
_BLANK = " \t\r\n"
_DECODER = json.JSONDecoder(parse_constant=str)
"""NaN and Infinity become text, so that the contracts refuse them as numbers."""


class JsonList:
    """The items of the list at `path` (keys with dots between, None for the document itself), each with its line."""

    def __init__(self, stream: TextIO, name: str, path: str | None) -> None:
        self._stream = stream
        self._name = name
        self._path = path.split(".") if path else []
        self._text = ""
        self._at = 0
        self._ended = False
        self._line = 1
        self._counted = 0

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        for key in self._path:
            self._enter(key)
        where = ".".join(self._path) or "the file"
        if self._peek() != "[":
            raise self._wrong(f"{where} is not a list; name the list in the mapping, such as `records: data.items`")
        self._at += 1
        if self._peek() == "]":
            return
        while True:
            self._peek()
            line = self._current_line()
            yield line, self._value()
            if self._comma_or("]"):
                return

    def _enter(self, key: str) -> None:
        """Move to the value of a key in the object at the current position."""
        self._expect("{")
        while self._peek() != "}":
            name = self._value()
            self._expect(":")
            if name == key:
                return
            self._value()
            if self._comma_or("}"):
                break
        raise self._wrong(f"there is no {key!r}")

    def _value(self) -> Any:
        """Decode the value at the current position; reads more text until the value is complete."""
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                # At the end of the window a number may be incomplete: 1 may be 1.5 or 1e+5.
                if end + 3 <= len(self._text) or self._ended:
                    self._at = end
                    return value
            except (ValueError, RecursionError) as error:
                if self._ended or len(self._text) - self._at > MAX_RECORD:
                    reason = getattr(error, "msg", error)
                    raise self._wrong(f"the value that begins here is not JSON: {reason}") from None
            self._read()

    def _peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read()

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise self._wrong(f"{character!r} was expected, not {self._peek()!r}")
        self._at += 1

    def _comma_or(self, end: str) -> bool:
        """Consume a comma (returns False) or the closing bracket `end` (returns True)."""
        if self._peek() == end:
            self._at += 1
            return True
        self._expect(",")
        return False

    def _read(self) -> None:
        """Drop decoded text and read more: at least the length of the incomplete value, which keeps the work linear."""
        self._current_line()
        more = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not more
        self._text = self._text[self._at :] + more
        self._at = self._counted = 0

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _wrong(self, reason: str) -> UsageError:
        return UsageError(f"{self._name}: line {self._current_line()}: {reason}")
