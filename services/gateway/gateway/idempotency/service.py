"""`Idempotency-Key`: a request repeated under its key is not carried out again, but gets the first answer again.

Follows draft-ietf-httpapi-idempotency-key-header-07. A key belongs to a tenant and to a request: its method, path and
body. A 2xx answer is kept. After a 4xx nothing was done: the key can be used for another request. After a 5xx, or when
the process died, it is unknown whether something was done: the key can be used for the same request only.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from gateway.door.service import Answer
from gateway.idempotency import repository
from gateway.idempotency.repository import Claim, Kept
from gateway.idempotency.telemetry import IDEMPOTENCY_UNREACHABLE, REPEATED
from touchpoint.base.telemetry import log
from touchpoint.db.engine import is_transient, sessions, transaction
from touchpoint.db.tenants import Tenants
from touchpoint.http.errors import ProblemError

LIFETIME = timedelta(hours=24)
FORGET_SECONDS = 600
WAIT_SECONDS = 2
"""Timeout of each use of the database."""
MAX_LENGTH = 255

NAME = b"idempotency-key"
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
"""A string of RFC 9651, 3.3.3."""
_BARE = re.compile(r"[!#-~][!-~]*")


class Key(NamedTuple):
    """A tenant's Idempotency-Key, and the hash of the request it is used for."""

    tenant: str
    value: str
    fingerprint: bytes


def key_of(scope: Scope, tenant: str, body: bytes) -> Key | None:
    """The Idempotency-Key of a request, if any: a quoted string as in the draft, or unquoted, as many clients send it.

    Raises ProblemError 400 when it is neither, or given twice.
    """
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == NAME]
    if not given:
        return None
    value = _value(given[0]) if len(given) == 1 else None
    if value is None:
        raise ProblemError(
            400,
            "malformed-idempotency-key",
            f"Idempotency-Key must be given once and be a string of 1–{MAX_LENGTH} printable ASCII characters, such as "
            '"8e03978e-40d5-43e8-bc93-6894a57f9324".',
        )
    request = b"%b %b?%b\n" % (scope["method"].encode(), scope["raw_path"], scope["query_string"])
    return Key(tenant, value, hashlib.sha256(request + body).digest())


def _value(given: str) -> str | None:
    quoted = _QUOTED.fullmatch(given)
    value = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given
    return value if len(value) <= MAX_LENGTH and (quoted or _BARE.fullmatch(given)) else None


class Idempotency:
    """Keeps keys and answers in the gateway's database. `longest`: the most seconds that a request may take."""

    def __init__(self, engine: AsyncEngine, longest: float) -> None:
        self._tenants = Tenants(engine)
        self._sessions = sessions(engine)
        self._lease = timedelta(seconds=longest + 10)

    async def once(self, key: Key | None, act: Callable[[], Awaitable[Answer]], *, needed: bool = True) -> Answer:
        """Carry the request out by `act`, unless it was carried out before under this key.

        Raises ProblemError 409 while it is being carried out, 422 when the key was used for another request, 503 when
        the database is unreachable. If not `needed`, because `act` is idempotent by itself, an unreachable database
        does not prevent the request.
        """
        if key is None:
            return await act()
        claim = Claim(key.tenant, key.value, uuid4())
        try:
            before = await self._claim(claim, key.fingerprint)
        except Exception as error:
            if not is_transient(error):
                raise
            log().warning(IDEMPOTENCY_UNREACHABLE, error=type(error).__name__)
            if not needed:
                return await act()
            raise _unavailable() from None
        if before is not None:
            return _repeated(before, key.fingerprint)
        return await self._act(claim, key.fingerprint, act)

    async def forget(self) -> None:
        """Delete expired keys and answers."""
        async with asyncio.timeout(WAIT_SECONDS), transaction(self._sessions) as session:
            await repository.forget_answers(session)

    async def _claim(self, claim: Claim, fingerprint: bytes) -> Kept | None:
        async with asyncio.timeout(WAIT_SECONDS), self._tenants.transaction(claim.tenant) as session:
            return await repository.claim(session, claim, fingerprint, lease=self._lease, lifetime=LIFETIME)

    async def _act(self, claim: Claim, fingerprint: bytes, act: Callable[[], Awaitable[Answer]]) -> Answer:
        status, kept = 500, None
        try:
            answer = await act()
            status = answer.status
            kept = _kept(answer, fingerprint)
            return answer
        except ProblemError as error:
            status = error.problem.status
            raise
        finally:
            await self._settle(claim, status, kept)

    async def _settle(self, claim: Claim, status: int, kept: Kept | None) -> None:
        """Keep the answer or release the key. Where that fails, the same request can be tried after the lease."""
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._tenants.transaction(claim.tenant) as session:
                if kept is not None and status < 300:
                    await repository.keep(session, claim, kept)
                elif status < 500:
                    await repository.release(session, claim)
                else:
                    await repository.end_lease(session, claim)
        except Exception as error:  # whatever the error, the client gets its answer
            log().warning(IDEMPOTENCY_UNREACHABLE, error=type(error).__name__)


def _repeated(kept: Kept, fingerprint: bytes) -> Answer:
    if kept.fingerprint != fingerprint:
        REPEATED.labels("reused").inc()
        detail = "This Idempotency-Key was used for another request: use a new one for each."
        raise ProblemError(422, "idempotency-key-reused", detail)
    if kept.status is None:
        REPEATED.labels("in-progress").inc()
        detail = "The first request with this Idempotency-Key is still being carried out."
        raise ProblemError(409, "request-in-progress", detail, headers={"Retry-After": "1"})
    REPEATED.labels("replayed").inc()
    headers = {"content-type": kept.content_type} if kept.content_type else {}
    return Answer(kept.status, headers | json.loads(kept.headers), kept.body)


def _kept(answer: Answer, fingerprint: bytes) -> Kept:
    headers = dict(answer.headers)
    content_type = headers.pop("content-type", "")
    return Kept(fingerprint, answer.status, content_type, answer.body, json.dumps(headers))


def _unavailable() -> ProblemError:
    detail = "The database of Idempotency-Keys cannot be used at the moment; nothing was done."
    return ProblemError(503, "idempotency-unavailable", detail, headers={"Retry-After": "5"})
