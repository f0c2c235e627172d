"""Who is calling: API keys checked against the database, remembered for seconds, at work while the database is away."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway import keys, repository, telemetry
from gateway.keys import Key
from touchpoint.db.engine import Sessions, is_transient, transaction
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope
from touchpoint.telemetry import log

FRESH_SECONDS = 5
"""So long a key is taken as it was read; a revoked one stops working within this and the time to read it."""
LOAD_SECONDS = 2
TOUCH_SECONDS = 60
MAX_ENTRIES = 10_000

_REALM = 'Bearer realm="touchpoint"'


@dataclass(slots=True)
class _Entry:
    """What the database said of a prefix; None: there is no such key."""

    key: Key | None
    loaded: float
    fresh_until: float


class Keyring:
    """API keys as this process knows them. With the database away a key seen before works on for `grace_seconds`."""

    def __init__(self, sessions: Sessions, grace_seconds: float) -> None:
        self._sessions = sessions
        self._grace = grace_seconds
        self._entries: dict[str, _Entry] = {}
        self._loading: dict[str, asyncio.Task[_Entry]] = {}
        self._used: dict[str, datetime] = {}

    async def authorize(self, authorization: str | None, scope: Scope) -> Caller:
        """The caller, if its key may do this. Raises ProblemError 401, 403, or 503 when the key cannot be checked."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized(_REALM, "Send your API key as Authorization: Bearer tp_….")
        parts = keys.split(token.strip())
        key = (await self._find(parts[0])).key if parts else None
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

    async def keep_last_use(self) -> None:
        """Record when keys were used, once a minute and off the requests' path, until cancelled."""
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            await self.record_last_use()

    async def record_last_use(self) -> None:
        """Record what was used since the last time; with the database away it waits for the next."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with asyncio.timeout(LOAD_SECONDS), transaction(self._sessions) as session:
                await repository.touch(session, used)
        except Exception as error:  # whatever it is, requests go on
            self._used = used | self._used
            log().warning(telemetry.KEYS_UNREACHABLE, error=type(error).__name__)

    async def _find(self, prefix: str) -> _Entry:
        entry = self._entries.get(prefix)
        if entry is not None and asyncio.get_running_loop().time() < entry.fresh_until:
            return entry
        loading = self._loading.get(prefix)
        if loading is None:
            loading = self._loading[prefix] = asyncio.create_task(self._load(prefix))
            loading.add_done_callback(lambda _: self._loading.pop(prefix))
        return await asyncio.shield(loading)

    async def _load(self, prefix: str) -> _Entry:
        """Read a key; many requests at once share one reading."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LOAD_SECONDS), self._sessions() as session:
                row = await repository.find(session, prefix)
        except Exception as error:
            if not is_transient(error):
                raise
            log().warning(telemetry.KEYS_UNREACHABLE, error=type(error).__name__)
            return self._remembered(prefix, now)
        self._entries.pop(prefix, None)
        self._entries[prefix] = entry = _Entry(Key.of(row) if row else None, now, now + FRESH_SECONDS)
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        return entry

    def _remembered(self, prefix: str, now: float) -> _Entry:
        entry = self._entries.get(prefix)
        if entry is None or entry.key is None or now - entry.loaded > self._grace:
            raise ProblemError(
                503, "keys-unavailable", "API keys cannot be checked at the moment.", headers={"Retry-After": "5"}
            )
        entry.fresh_until = now + FRESH_SECONDS
        return entry


def _unauthorized(challenge: str, detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
