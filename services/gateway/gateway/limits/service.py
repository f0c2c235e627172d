"""Rate limits of keys (events and requests a second) and of client addresses, and tenants' daily quotas of events.

Rates follow GCRA, the generic cell rate algorithm (ITU-T I.371). It keeps a single number for each key: the
theoretical arrival time `tat`: each use moves it forward by cost ÷ rate. It may be up to `seconds` ahead of the clock:
that is the burst. A key with at least 1 left may send a whole batch and go into debt; otherwise a batch larger than the
burst would always be refused. A key in debt is refused before its body is read.

The bound: within any t seconds a process admits at most burst + rate × t + (largest batch - 1). A client that keeps to
rate and burst is never refused. Nothing here awaits; `tasks` adds up the usage of all processes.
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

ENOUGH = 0.999
"""A request is admitted if at least this is left: 1, less an allowance for rounding errors."""
UNIT_BYTES = 16 * 1024
"""A request counts as its number of events, or as its bytes in units of this size if those are more."""
DAY_SECONDS = 86_400
REFUSALS_PER_SECOND = 100
"""429s per key and second; more are delayed, by MAX_HOLD_SECONDS at most."""
MAX_HOLD_SECONDS = 1.0

RawHeaders = list[tuple[bytes, bytes]]
Clock = Callable[[], float]


@dataclass(slots=True)
class Bucket:
    """What a key has used of a rate. `rate` is per second; times are seconds of a monotonic clock."""

    rate: int
    seconds: int
    tat: float
    unshared: int = 0
    """Used since the last exchange with the other processes."""
    since: float = 0
    """When the first of `unshared` was used."""
    refused: float = 0
    """When the last refusal is answered, perhaps in the future."""

    def left(self, now: float) -> float:
        """How much may be used: below 1 the key is exhausted, below 0 in debt."""
        ahead = self.tat - now
        return (self.seconds - ahead) * self.rate if ahead > 0 else self.seconds * self.rate

    def take(self, cost: int, now: float) -> None:
        """Use `cost`, perhaps going into debt."""
        if not self.unshared:
            self.since = now
        self.unshared += cost
        self.tat = (self.tat if self.tat > now else now) + cost / self.rate

    def hold(self, now: float) -> float:
        """For how many seconds to delay the next refusal."""
        self.refused = min(max(self.refused + 1 / REFUSALS_PER_SECOND, now), now + MAX_HOLD_SECONDS)
        return self.refused - now

    def idle(self, now: float) -> bool:
        """Whether a new bucket would be the same."""
        return not self.unshared and self.tat <= now and self.refused <= now


class Meter:
    """A rate limit: the default rate, and a bucket for each key in use.

    `whose` and `what`: for the problem's text.
    """

    def __init__(self, name: str, rate: int, seconds: int, whose: str = "API key", what: str = "") -> None:
        self.name = name
        self._whose, self._what = whose, what or name
        self.buckets: dict[str, Bucket] = {}
        self._policy, self._left = f'"{name}";q=%d;w=%d'.encode(), f'"{name}";r=%d;t=%d'.encode()
        self._rate = rate
        self._seconds = seconds

    def enter(self, scope: Scope, key: str, rate: int | None, cost: int, now: float) -> Bucket:
        """Use `cost` and put the RateLimit headers into the scope; cost 0 only checks. Raises LimitedError."""
        bucket = self._bucket(key, rate or self._rate, now)
        left = bucket.left(now)
        if left < ENOUGH:
            wait = ceil((1 - left) / bucket.rate)
            scope[HEADERS] = self._headers(bucket, 0, wait)
            raise self._refused(bucket, wait, now)
        if cost:
            bucket.take(cost, now)
            left -= cost
        if left < ENOUGH:
            scope[HEADERS] = self._headers(bucket, 0, ceil((1 - left) / bucket.rate))
        else:
            scope[HEADERS] = self._headers(bucket, int(left + 1 - ENOUGH), bucket.seconds)
        return bucket

    def forget_idle(self, now: float) -> None:
        """Remove the buckets of keys that are not in use."""
        for key in [key for key, bucket in self.buckets.items() if bucket.idle(now)]:
            del self.buckets[key]

    def _bucket(self, key: str, rate: int, now: float) -> Bucket:
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = Bucket(rate, self._seconds, now)
        bucket.rate = rate
        return bucket

    def _headers(self, bucket: Bucket, left: int, window: int) -> RawHeaders:
        """RateLimit headers of draft-ietf-httpapi-ratelimit-headers-11; left ÷ window never exceeds the rate."""
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
    """What a tenant sent on a day, numbered from 1970 in UTC: known to all processes, and not yet shared."""

    number: int
    shared: int = 0
    unshared: int = 0


class Quotas:
    """Tenants' daily quotas. Events count once Kafka has acknowledged them: refused and failed ones do not."""

    def __init__(self, per_day: int | None, wall: Clock) -> None:
        self.days: dict[str, Day] = {}
        self._per_day = per_day
        self._wall = wall

    def check(self, scope: Scope, caller: Holder, cost: int, bucket: Bucket, now: float) -> None:
        """Check that `cost` more events fit into today's quota; adds RateLimit headers. Raises LimitedError."""
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
        """Count events that Kafka has acknowledged."""
        self._today(caller.tenant).unshared += count

    def forget_past(self) -> None:
        """Remove the counts of past days."""
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
    """All rate limits of a gateway. The headers they put into the scope are sent by `Door`."""

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
        """Admit `count` events of `size` bytes. Count 0 only checks, before the body is read.

        Raises LimitedError, or ProblemError 429 when too many requests of the caller are in work.
        """
        _let_in(scope, caller)
        now = self.clock()
        bucket = self.events.enter(scope, caller.key, caller.event_rate, max(count, size // UNIT_BYTES), now)
        self.quotas.check(scope, caller, count, bucket, now)

    def charge_size(self, caller: Holder, count: int, size: int) -> None:
        """Charge for a body that is larger than its number of events."""
        if bucket := self.events.buckets.get(caller.key):
            bucket.take(max(0, size // UNIT_BYTES - count), self.clock())

    def admit_request(self, scope: Scope, caller: Holder) -> None:
        """Admit a query or a command. Raises as `admit_events`."""
        _let_in(scope, caller)
        self.requests.enter(scope, caller.key, caller.request_rate, 1, self.clock())

    def admit_public(self, scope: Scope) -> Holder:
        """Admit a request without a key; returns a holder for its client's address. Raises as `admit_events`."""
        holder = Holder("", frozenset(), self._addresses.hash_of(scope))
        _let_in(scope, holder)
        self.public.enter(scope, holder.key, None, 1, self.clock())
        return holder

    def forget_idle(self) -> None:
        """Remove idle buckets and the counts of past days."""
        now = self.clock()
        self.public.forget_idle(now)
        self.events.forget_idle(now)
        self.requests.forget_idle(now)
        self.quotas.forget_past()


def _let_in(scope: Scope, caller: Holder) -> None:
    """Take a place for the request: comes first, because a delayed refusal needs a place, too."""
    scope[TENANT] = caller.tenant
    if PLACES in scope:
        scope[PLACES].take(scope, caller)
