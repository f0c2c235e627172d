"""Limits the requests in work at once by tenant and key, so that no caller takes all of the gateway's connections.

There are as many places as connections. A tenant gets another place while it has fewer than are free, a key while it
has fewer than half of the free ones. A tenant alone gets half of all places, a key alone a third. If n tenants take
as much as they can, each has a share of 1/(n + 1), and as many are free for another tenant. (Choudhury and Hahne,
"Dynamic queue length thresholds for shared-memory packet switches", 1998.)
"""

import time
from collections import Counter

from starlette.types import Scope

from gateway.door.telemetry import CROWDED, LIMITED
from touchpoint.base.telemetry import log
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller

PLACES, _TAKEN = "touchpoint.places", "touchpoint.place"


class Places:
    """The places of a process. In a request's ASGI scope under PLACES."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._of_tenants = Counter[str]()
        self._of_keys = Counter[str]()
        self._logged = 0.0

    def take(self, scope: Scope, caller: Caller) -> None:
        """Take a place for a request, before its body is read, until its `release`. Raises ProblemError 429."""
        if _TAKEN in scope:
            return
        free = self._most - self._taken
        if self._of_tenants[caller.tenant] >= free or 2 * self._of_keys[caller.key] >= free:
            raise self._refused(caller)
        self._taken += 1
        self._of_tenants[caller.tenant] += 1
        self._of_keys[caller.key] += 1
        scope[_TAKEN] = caller

    def release(self, scope: Scope) -> None:
        """Release the request's place, once it is answered."""
        caller: Caller | None = scope.pop(_TAKEN, None)
        if caller is not None:
            self._taken -= 1
            _count_down(self._of_tenants, caller.tenant)
            _count_down(self._of_keys, caller.key)

    def _refused(self, caller: Caller) -> ProblemError:
        """The problem; it also closes the connection, for other clients to use."""
        LIMITED.labels("at-once").inc()
        if (now := time.monotonic()) > self._logged + 1:
            self._logged = now
            log().warning(CROWDED, key=caller.key, tenant=caller.tenant)
        detail = (
            "Too many requests of this API key or tenant are in work at once. Wait for their answers, and send bodies "
            "without delay."
        )
        return ProblemError(429, "too-many-at-once", detail, headers={"Retry-After": "1", "Connection": "close"})


def _count_down(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
