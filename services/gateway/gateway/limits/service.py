"""What a key may do: so many events and so many requests a second, and its tenant so many events a day.

Rates follow GCRA, the generic cell rate algorithm (ITU-T I.371): of each key one number is kept, the theoretical
arrival time `tat`, at which all it has taken will be paid for at its rate. It may lie `seconds` ahead of the clock:
that is the burst. A key that has one left is let in with a whole batch and goes into debt, so that no batch is refused
for ever, and a key in debt is refused before its body is read.

The law: within any t seconds a process lets in at most burst + rate × t + (largest batch - 1); a client that keeps to
rate and burst is never refused. Nothing here awaits; `tasks` makes several processes keep one account.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from starlette.types import Scope

from gateway.config import Settings
from gateway.door.service import HEADERS, LIMITED, PLACES, TENANT, LimitedError
from gateway.keys.service import Holder
from gateway.limits.addresses import Addresses

ONE = 0.999
"""What counts as one: rounding refuses nobody."""
UNIT_BYTES = 16 * 1024
"""What is sent counts as one event for so many bytes, if that is more than it has events."""
DAY_SECONDS = 86_400
REFUSALS_PER_SECOND = 100
"""So many answers a key is told 429: who asks again at once, on many connections, waits."""
MAX_HOLD_SECONDS = 1.0

RawHeaders = list[tuple[bytes, bytes]]
Clock = Callable[[], float]


@dataclass(slots=True)
class Bucket:
    """What one key has taken of one rate; `rate` is per second, times are a clock's seconds."""

    rate: int
    seconds: int
    tat: float
    unshared: int = 0
    """Taken since the last exchange with the other processes."""
    since: float = 0
    """When the first of that was taken."""
    refused: float = 0
    """When the last refusal is answered."""

    def left(self, now: float) -> float:
        """How much may be taken: below one the key is exhausted, below zero in debt."""
        ahead = self.tat - now
        return (self.seconds - ahead) * self.rate if ahead > 0 else self.seconds * self.rate

    def take(self, cost: int, now: float) -> None:
        """Take, perhaps into debt."""
        if not self.unshared:
            self.since = now
        self.unshared += cost
        self.tat = (self.tat if self.tat > now else now) + cost / self.rate

    def hold(self, now: float) -> float:
        """How long to keep back the next refusal."""
        self.refused = min(max(self.refused + 1 / REFUSALS_PER_SECOND, now), now + MAX_HOLD_SECONDS)
        return self.refused - now

    def idle(self, now: float) -> bool:
        """Whether nothing is lost by forgetting it."""
        return not self.unshared and self.tat <= now and self.refused <= now


class Meter:
    """One policy: everybody's rate, unless a key has its own, and a bucket for each key in use."""

    def __init__(self, name: str, rate: int, seconds: int, whose: str = "API key", what: str = "") -> None:
        self.name = name
        self._whose, self._what = whose, what or name
        self.buckets: dict[str, Bucket] = {}
        self._policy, self._left = f'"{name}";q=%d;w=%d'.encode(), f'"{name}";r=%d;t=%d'.encode()
        self._rate = rate
        self._seconds = seconds

    def enter(self, scope: Scope, key: str, rate: int | None, cost: int, now: float) -> Bucket:
        """Take, and leave the headers in the scope; cost 0 only looks. Raises LimitedError when nothing is left."""
        bucket = self._bucket(key, rate or self._rate, now)
        left = bucket.left(now)
        if left < ONE:
            wait = ceil((1 - left) / bucket.rate)
            scope[HEADERS] = self._headers(bucket, 0, wait)
            raise self._refused(bucket, wait, now)
        if cost:
            bucket.take(cost, now)
            left -= cost
        if left < ONE:
            scope[HEADERS] = self._headers(bucket, 0, ceil((1 - left) / bucket.rate))
        else:
            scope[HEADERS] = self._headers(bucket, int(left + 1 - ONE), bucket.seconds)
        return bucket

    def forget_idle(self, now: float) -> None:
        """Keep the memory to the keys in use."""
        for key in [key for key, bucket in self.buckets.items() if bucket.idle(now)]:
            del self.buckets[key]

    def _bucket(self, key: str, rate: int, now: float) -> Bucket:
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = Bucket(rate, self._seconds, now)
        bucket.rate = rate
        return bucket

    def _headers(self, bucket: Bucket, left: int, window: int) -> RawHeaders:
        """As draft-ietf-httpapi-ratelimit-headers-11 has them; left ÷ window never exceeds the rate."""
        return [
            (b"ratelimit-policy", self._policy % (bucket.rate * bucket.seconds, bucket.seconds)),
            (b"ratelimit", self._left % (left, window)),
        ]

    def _refused(self, bucket: Bucket, wait: int, now: float) -> LimitedError:
        LIMITED.labels(self.name).inc()
        rate, burst = f"{bucket.rate:,} {self._what} a second", f"{bucket.rate * bucket.seconds:,} at once"
        detail = f"This {self._whose} may do {rate}, {burst}."
        return LimitedError("rate-limited", detail, wait, bucket.hold(now))


@dataclass(slots=True)
class Day:
    """What a tenant has sent on a day (its number since 1970, in UTC): as all processes know, and this one alone."""

    number: int
    shared: int = 0
    unshared: int = 0


class Quotas:
    """Events a day, per tenant. What counts is what Kafka has: a refused event, or one tried in vain, is free."""

    def __init__(self, per_day: int | None, wall: Clock) -> None:
        self.days: dict[str, Day] = {}
        self._per_day = per_day
        self._wall = wall

    def check(self, scope: Scope, caller: Holder, cost: int, bucket: Bucket, now: float) -> None:
        """Whether so many more may be sent today; adds to the scope's headers. Raises LimitedError."""
        quota = caller.events_per_day or self._per_day
        if quota is None:
            return
        today = self._today(caller.tenant)
        left = max(0, quota - today.shared - today.unshared)
        fits = left >= max(1, cost)
        wait = DAY_SECONDS - int(self._wall()) % DAY_SECONDS
        scope[HEADERS] += [
            (b"ratelimit-policy", b'"daily";q=%d;w=%d' % (quota, DAY_SECONDS)),
            (b"ratelimit", b'"daily";r=%d;t=%d' % (left - cost if fits else left, wait)),
        ]
        if not fits:
            LIMITED.labels("daily").inc()
            detail = f"This tenant may send {quota:,} events a day (UTC) and has {left:,} left, too few for this."
            raise LimitedError("quota-exceeded", detail, wait, bucket.hold(now))

    def sent(self, caller: Holder, count: int) -> None:
        """Count what Kafka has taken."""
        self._today(caller.tenant).unshared += count

    def forget_past(self) -> None:
        """Keep the memory to the tenants of today."""
        number = self._number()
        for tenant in [tenant for tenant, day in self.days.items() if day.number != number]:
            del self.days[tenant]

    def _number(self) -> int:
        return int(self._wall()) // DAY_SECONDS

    def _today(self, tenant: str) -> Day:
        number, day = self._number(), self.days.get(tenant)
        if day is None or day.number != number:
            day = self.days[tenant] = Day(number)
        return day


class Limits:
    """All limits of a gateway; ask once it is known who calls. What they leave in the scope, the door sends."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self.clock = clock
        self.events = Meter("events", settings.events_per_second, settings.burst_seconds)
        self.requests = Meter("requests", settings.requests_per_second, settings.burst_seconds)
        self.quotas = Quotas(settings.events_per_day, wall)
        self.public = Meter(
            "public", settings.public_requests_per_second, settings.burst_seconds, "client address", "requests"
        )
        self.public_at_once = settings.public_at_once
        self._addresses = Addresses(settings.client_address_header)

    def admit_events(self, scope: Scope, caller: Holder, count: int, size: int = 0) -> None:
        """Let so many events of so many bytes in; none: say whether one would be, before the body is read.

        Raises LimitedError, or ProblemError 429 when too many requests are in work.
        """
        _let_in(scope, caller)
        now = self.clock()
        bucket = self.events.enter(scope, caller.key, caller.event_rate, max(count, size // UNIT_BYTES), now)
        self.quotas.check(scope, caller, count, bucket, now)

    def charge_size(self, caller: Holder, count: int, size: int) -> None:
        """What came in as so many events was larger than that."""
        if bucket := self.events.buckets.get(caller.key):
            bucket.take(max(0, size // UNIT_BYTES - count), self.clock())

    def admit_request(self, scope: Scope, caller: Holder) -> None:
        """Let a query or a command in. Raises as `admit_events`."""
        _let_in(scope, caller)
        self.requests.enter(scope, caller.key, caller.request_rate, 1, self.clock())

    def admit_public(self, scope: Scope) -> Holder:
        """Let a request without a key in, and say who it counts for: its client's address. Raises as `admit_events`."""
        holder = Holder("", frozenset(), self._addresses.hash_of(scope))
        _let_in(scope, holder)
        self.public.enter(scope, holder.key, None, 1, self.clock())
        return holder

    def forget_idle(self) -> None:
        """Keep the memory to what is in use."""
        now = self.clock()
        self.public.forget_idle(now)
        self.events.forget_idle(now)
        self.requests.forget_idle(now)
        self.quotas.forget_past()


def _let_in(scope: Scope, caller: Holder) -> None:
    """First of all: a refusal that is held back takes a place, too."""
    scope[TENANT] = caller.tenant
    if PLACES in scope:
        scope[PLACES].take(scope, caller)
