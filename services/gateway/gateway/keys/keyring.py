"""Checks API keys against the database. Keys are cached for seconds, and longer while the database is unreachable."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from gateway.keys import repository, telemetry
from gateway.keys.decisions import Holder, Key, split
from touchpoint.base.telemetry import log
from touchpoint.db.engine import Sessions, transaction
from touchpoint.http.errors import ProblemError
from touchpoint.http.scopes import Scope

T = TypeVar("T")

FRESH_SECONDS = 5
"""A cached key is used for this long. Then it is read again; requests wait for that only after STALE_SECONDS more."""
STALE_SECONDS = 3
LOAD_SECONDS = 2
TOUCH_SECONDS = 60
MAX_KEYS = 10_000
MAX_UNKNOWN = 10_000
"""Prefixes without a key that are cached, apart from the keys: guessed prefixes evict no key."""

_REALM = 'Bearer realm="touchpoint"'


@dataclass(slots=True)
class _Entry:
    """A key as it was read at `loaded`."""

    key: Key
    loaded: float
    fresh_until: float


class Keyring:
    """The cache of API keys in this process. While the database is unreachable, a cached key works for `grace_seconds`.

    Only one query runs at a time, for all prefixes requested since the last: guessed prefixes occupy one connection,
    however many they are, and a valid key among them waits for one query.
    """

    def __init__(self, sessions: Sessions, grace_seconds: float, most_waiting: int = 400) -> None:
        self._sessions = sessions
        self._grace = grace_seconds
        self._most_waiting = most_waiting
        """Limit of unknown prefixes that wait for the database; of requests with the same prefix, half of it."""
        self._waiting = Counter[str]()
        """Requests that wait for the database, by prefix."""
        self._known: dict[str, _Entry] = {}
        self._unknown: dict[str, float] = {}
        self._asked: list[str] = []
        self._readings: dict[str, asyncio.Future[None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._used: dict[str, datetime] = {}

    async def authorize(self, authorization: str | None, scope: Scope) -> Holder:
        """The caller, if its key may do this. Raises ProblemError 401, 403, or 503 when the key cannot be checked."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized(_REALM, "Send your API key as Authorization: Bearer tp_….")
        parts = split(token.strip())
        key = await self._find(parts[0]) if parts else None
        now = datetime.now(UTC)
        if not parts or key is None or not key.opened_by(parts[1], now):
            raise _unauthorized(f'{_REALM}, error="invalid_token"', "The API key is unknown, expired or revoked.")
        self._used[key.caller.key] = now
        if scope not in key.caller.scopes:
            raise ProblemError(
                403,
                "missing-scope",
                f"This API key lacks the scope {scope}.",
                headers={"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
            )
        return key.caller

    async def record_last_use(self) -> None:
        """Write when keys were used since the last call. What cannot be written is kept for the next call."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with asyncio.timeout(LOAD_SECONDS), transaction(self._sessions) as session:
                await repository.touch(session, used)
        except Exception:
            self._used = used | self._used
            raise

    async def _find(self, prefix: str) -> Key | None:
        """The key, or None if there is none. Raises ProblemError 503 if it is not cached and cannot be queried."""
        now = asyncio.get_running_loop().time()
        entry = self._known.get(prefix)
        if entry is not None and now < entry.fresh_until + STALE_SECONDS:
            if now >= entry.fresh_until:
                self._read(prefix)
        elif now >= self._unknown.get(prefix, 0):
            entry = await self._look_up(prefix, now)
        return entry.key if entry else None

    async def _look_up(self, prefix: str, now: float) -> _Entry | None:
        if prefix in self._known:
            await asyncio.shield(self._read(prefix))
        else:
            await self._wait_for(prefix)
        entry = self._known.get(prefix)
        if now >= (entry.fresh_until if entry else self._unknown.get(prefix, 0)):
            raise _unavailable()
        return entry

    async def _wait_for(self, prefix: str) -> None:
        """Wait until an unknown prefix has been read. Raises ProblemError 503 when too many requests wait already."""
        if len(self._waiting) >= self._most_waiting or self._waiting[prefix] >= self._most_waiting // 2:
            raise _unavailable()
        self._waiting[prefix] += 1
        try:
            await asyncio.shield(self._read(prefix))
        finally:
            self._waiting[prefix] -= 1
            if not self._waiting[prefix]:
                del self._waiting[prefix]

    def _read(self, prefix: str) -> asyncio.Future[None]:
        """Request a prefix from the database; the future is done after the query, whether it failed or not."""
        reading = self._readings.get(prefix)
        if reading is None:
            reading = self._readings[prefix] = asyncio.get_running_loop().create_future()
            self._asked.append(prefix)
            if self._reader is None:
                self._reader = asyncio.create_task(self._read_asked())
        return reading

    async def _read_asked(self) -> None:
        try:
            while self._asked:
                prefixes, self._asked = self._asked, []
                try:
                    await self._load(prefixes)
                finally:
                    for prefix in prefixes:
                        self._readings.pop(prefix).set_result(None)
        finally:
            self._reader = None

    async def _load(self, prefixes: list[str]) -> None:
        now = asyncio.get_running_loop().time()
        try:
            read = await _within(LOAD_SECONDS, self._fetch(prefixes))
        except Exception as error:  # whatever the error, cached keys keep working during their grace
            log().warning(telemetry.KEYS_UNREACHABLE, error=type(error).__name__)
            self._keep(prefixes, now)
            return
        for prefix in prefixes:
            self._known.pop(prefix, None)
            self._unknown.pop(prefix, None)
            if prefix in read:
                self._known[prefix] = _Entry(read[prefix], now, now + FRESH_SECONDS)
            else:
                self._unknown[prefix] = now + FRESH_SECONDS
        _bound(self._known, MAX_KEYS)
        _bound(self._unknown, MAX_UNKNOWN)

    async def _fetch(self, prefixes: list[str]) -> dict[str, Key]:
        async with self._sessions() as session:
            rows = await repository.find_all(session, prefixes)
        return {row.prefix: Key.of(row, quota) for row, quota in rows}

    def _keep(self, prefixes: list[str], now: float) -> None:
        """Extend the cached keys of these prefixes, if their grace has not ended."""
        for prefix in prefixes:
            entry = self._known.get(prefix)
            if entry is not None and now - entry.loaded <= self._grace:
                entry.fresh_until = now + FRESH_SECONDS


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises TimeoutError after `seconds`, without waiting for the end of its cancellation.

    asyncio.timeout would wait for that, which takes seconds where a connection hangs.
    """
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=seconds)
    if task.done():
        return task.result()
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    raise TimeoutError


def _bound(remembered: dict[str, Any], size: int) -> None:
    """Remove the oldest entries above the size."""
    for prefix in list(islice(remembered, max(0, len(remembered) - size))):
        del remembered[prefix]


def _unavailable() -> ProblemError:
    return ProblemError(
        503, "keys-unavailable", "API keys cannot be checked at the moment.", headers={"Retry-After": "5"}
    )


def _unauthorized(challenge: str, detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
