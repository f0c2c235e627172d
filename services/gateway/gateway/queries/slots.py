"""Limits of concurrent requests to a service or a route, in all and by tenant; further requests wait a moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from touchpoint.http.errors import ProblemError

WAIT_SECONDS = 1
RETRY_AFTER = {"Retry-After": "1"}


class Slots:
    """Slots for this process's requests to one service or route. A tenant gets `share` of them, by default half."""

    def __init__(self, service: str, most: int, share: int | None = None) -> None:
        self._service = service
        self._share = share or max(1, most // 2)
        self._all = asyncio.Semaphore(most)
        self._tenants = WeakValueDictionary[str, asyncio.Semaphore]()
        """By tenant, or by client address; only of those with a request here."""

    @asynccontextmanager
    async def taken(self, holder: str) -> AsyncIterator[None]:
        """Hold a slot. Raises ProblemError 429 when the holder's share stays taken, 503 when all slots do."""
        own = self._tenants.setdefault(holder, asyncio.Semaphore(self._share))
        if not await _acquired(own):
            detail = f"{self._share} of your requests to {self._service} are in work: wait for their answers."
            raise ProblemError(429, "too-many-questions", detail, headers=RETRY_AFTER)
        try:
            if not await _acquired(self._all):
                detail = f"{self._service} has as many requests in work as it may have at once."
                raise ProblemError(503, "service-busy", detail, headers=RETRY_AFTER)
            try:
                yield
            finally:
                self._all.release()
        finally:
            own.release()


async def _acquired(slot: asyncio.Semaphore) -> bool:
    """Wait for a slot, for WAIT_SECONDS at most."""
    if not slot.locked():
        return await slot.acquire()  # at once
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await slot.acquire()
    except TimeoutError:
        return False
