"""Rate limits and quotas: the bounds of GCRA, the RateLimit headers, and usage shared by several gateways."""

import asyncio
import contextlib
import json
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from starlette.responses import JSONResponse

from gateway.config import Settings
from gateway.door.service import HEADERS, LimitedError
from gateway.keys import repository as keys_repository
from gateway.keys import service as keys
from gateway.keys.service import Holder
from gateway.limits import repository, tasks
from gateway.limits import service as limits_module
from gateway.limits.service import REFUSALS_PER_SECOND, Limits
from gateway.limits.tasks import SHARE_SECONDS, Sharing
from touchpoint.db.engine import create_engine, transaction
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.http.scopes import Scope
from touchpoint.process.recurring import Recurring

START = 1_000_000.0
"""Seconds of a clock far from zero, where a float is as coarse as in a process that has run for days."""
MIDNIGHT = 20_000 * 86_400
"""The beginning of a day in UTC, in seconds since 1970."""


class Clock:
    """A clock that a test sets by `now`."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def limits_of(clock=None, wall=None, **over):
    given = {"events_per_second": 10, "burst_seconds": 2, "requests_per_second": 10} | over
    settings = Settings(database_url="postgresql:///unused", internal_token_secrets=["unused" * 6], **given)
    return Limits(settings, clock or Clock(), wall or Clock(MIDNIGHT))


def holder(key="k", tenant="acme", **own):
    return Holder(tenant, frozenset(), key, **own)


def ask(limits, cost=1, caller=None):
    """Whether events of this cost are admitted, and the RateLimit headers of the answer."""
    scope = {}
    try:
        limits.admit_events(scope, caller or holder(), cost)
        let_in = True
    except LimitedError:
        let_in = False
    return let_in, [(name.decode(), value.decode()) for name, value in scope[HEADERS]]


def admit(limits, cost=1, caller=None):
    return ask(limits, cost, caller)[0]


def refusal(limits, cost=1, caller=None):
    with pytest.raises(LimitedError) as caught:
        limits.admit_events({}, caller or holder(), cost)
    return caught.value


gaps = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 40)), min_size=1, max_size=60)
rates = st.integers(1, 2000)
bursts = st.integers(1, 5)


@given(gaps, rates, bursts)
def test_no_time_window_admits_more_than_burst_and_rate_allow(gaps, rate, burst):
    clock = Clock()
    limits, let_in = limits_of(clock, events_per_second=rate, burst_seconds=burst), []
    for gap, cost in gaps:
        clock.now += gap / rate
        if admit(limits, cost):
            let_in.append((clock.now, cost))
    largest = max(cost for _, cost in gaps)
    for first in range(len(let_in)):
        for last in range(first, len(let_in)):
            taken = sum(cost for _, cost in let_in[first : last + 1])
            seconds = let_in[last][0] - let_in[first][0]
            assert taken <= burst * rate + rate * seconds + largest - 1 + 0.01


@given(gaps, rates, bursts)
def test_a_client_that_keeps_to_rate_and_burst_is_never_refused(gaps, rate, burst):
    clock = Clock()
    limits, tokens = limits_of(clock, events_per_second=rate, burst_seconds=burst), Fraction(burst * rate)
    for gap, cost in gaps:
        wait = max(Fraction(gap), Fraction(min(cost, burst * rate) - tokens)) / rate
        before, clock.now = clock.now, clock.now + float(wait)
        tokens = min(Fraction(burst * rate), tokens + (Fraction(clock.now) - Fraction(before)) * rate)
        tokens -= min(cost, burst * rate)
        assert admit(limits, min(cost, burst * rate))


@given(gaps, rates)
def test_a_client_that_waits_for_retry_after_is_admitted(gaps, rate):
    clock = Clock()
    limits = limits_of(clock, events_per_second=rate)
    for gap, cost in gaps:
        clock.now += gap / rate
        if not admit(limits, cost):
            clock.now += int(refusal(limits, cost).headers["Retry-After"])
            assert admit(limits, cost)


@given(st.lists(st.integers(1, 100), max_size=30), rates, bursts)
def test_exactly_what_the_ratelimit_header_says_remains_is_admitted(costs, rate, burst):
    limits = limits_of(events_per_second=rate, burst_seconds=burst)
    for cost in costs:
        admit(limits, cost)
    _, [_, (_, described)] = ask(limits, 0)
    left = int(described.split(";")[1].removeprefix("r="))
    assert [admit(limits) for _ in range(left + 1)] == [True] * left + [False]


def test_a_batch_larger_than_the_burst_is_admitted_and_later_requests_wait_for_it():
    clock = Clock()
    limits = limits_of(clock)
    assert ask(limits, 500) == (True, [("ratelimit-policy", '"events";q=20;w=2'), ("ratelimit", '"events";r=0;t=49')])
    assert refusal(limits).headers["Retry-After"] == "49"
    clock.now += 48
    assert not admit(limits)
    clock.now += 1
    assert admit(limits)


def test_a_check_with_cost_zero_uses_nothing_and_is_refused_when_the_key_is_exhausted():
    limits = limits_of()
    for _ in range(100):
        assert admit(limits, 0)
    assert admit(limits, 20)
    assert not admit(limits, 0)


def test_large_bodies_use_the_rate_by_their_size_but_the_quota_by_their_events():
    limits = limits_of(clock := Clock(), events_per_second=100, events_per_day=4)
    limits.admit_events({}, holder(), 3, 100_000)
    assert limits.events.buckets["k"].left(clock.now) == pytest.approx(200 - 6)
    limits.admit_events({}, holder(), 3, 5000)
    assert limits.events.buckets["k"].left(clock.now) == pytest.approx(200 - 6 - 3)
    limits.admit_events({}, holder(), 1)
    limits.charge_size(holder(), 1, 15_000)
    limits.charge_size(holder(), 1, 40_000)
    assert limits.events.buckets["k"].left(clock.now) == pytest.approx(200 - 6 - 3 - 1 - 1)
    limits.charge_size(holder("forgotten"), 0, 40_000)


def test_the_ratelimit_headers_are_structured_fields_as_in_the_ietf_draft():
    limits = limits_of(clock := Clock())
    policy = ("ratelimit-policy", '"events";q=20;w=2')
    assert ask(limits) == (True, [policy, ("ratelimit", '"events";r=19;t=2')])
    assert ask(limits, 19) == (True, [policy, ("ratelimit", '"events";r=0;t=1')])
    assert ask(limits) == (False, [policy, ("ratelimit", '"events";r=0;t=1')])
    clock.now += 0.95
    assert ask(limits, 0) == (True, [policy, ("ratelimit", '"events";r=9;t=2')])


def test_a_refusal_names_the_limit_and_when_to_try_again():
    limits = limits_of(events_per_second=1500)
    admit(limits, 3000 + 4500)
    error = refusal(limits)
    assert (error.problem.status, error.problem.type) == (429, "urn:touchpoint:problem:rate-limited")
    assert error.problem.detail == "This API key may do 1,500 events a second, 3,000 at once. Try again in 4 s."
    assert error.headers == {"Retry-After": "4"}


def test_each_key_has_its_own_rate_and_events_do_not_use_the_rate_of_requests():
    limits = limits_of()
    assert admit(limits, 20, holder("one"))
    assert not admit(limits, 1, holder("one"))
    assert admit(limits, 1, holder("two"))
    limits.admit_request({}, holder("one"))


def test_a_keys_own_limit_overrides_the_default_from_its_next_request():
    limits = limits_of()
    assert admit(limits, 20)
    assert not admit(limits)
    let_in, headers = ask(limits, 1, holder(event_rate=1000))
    assert (let_in, headers[0]) == (False, ("ratelimit-policy", '"events";q=2000;w=2'))
    limits.clock.now += 0.1
    assert admit(limits, 1, holder(event_rate=1000))


def test_429s_of_a_key_above_the_rate_of_refusals_are_delayed_up_to_a_maximum():
    limits = limits_of()
    admit(limits, 2000)
    holds = [refusal(limits).hold for _ in range(200)]
    assert holds[0] == 0
    assert all(later - sooner <= 1.001 / REFUSALS_PER_SECOND for sooner, later in pairwise(holds))
    assert max(holds) == limits_module.MAX_HOLD_SECONDS
    limits.clock.now += 2
    assert refusal(limits).hold == 0


def test_idle_buckets_and_past_days_are_removed_from_memory():
    limits = limits_of(clock := Clock())
    for number in range(100):
        admit(limits, 5, holder(f"k{number}", f"t{number}"))
        limits.quotas.sent(holder(f"k{number}", f"t{number}"), 5)
    for bucket in limits.events.buckets.values():
        bucket.unshared = 0
    limits.forget_idle()
    assert (len(limits.events.buckets), len(limits.quotas.days)) == (100, 100)
    clock.now += 1
    limits.quotas._wall.now += 86_400
    limits.forget_idle()
    assert (len(limits.events.buckets), len(limits.quotas.days)) == (0, 0)


def test_a_daily_quota_counts_the_events_of_all_keys_of_a_tenant():
    limits = limits_of(wall=(wall := Clock(MIDNIGHT + 86_400 - 100.5)), events_per_day=7)
    for key, count in (("one", 4), ("two", 2)):
        assert admit(limits, count, holder(key))
        limits.quotas.sent(holder(key), count)
    let_in, headers = ask(limits, 1)
    assert let_in
    assert headers[2:] == [("ratelimit-policy", '"daily";q=7;w=86400'), ("ratelimit", '"daily";r=0;t=101')]

    error = refusal(limits, 2)
    assert (error.problem.status, error.problem.type) == (429, "urn:touchpoint:problem:quota-exceeded")
    assert error.problem.detail == (
        "This tenant may send 7 events a day (UTC) and has 1 left, too few for this. Try again in 101 s."
    )
    assert error.headers == {"Retry-After": "101"}
    limits.quotas.sent(holder(), 1)
    assert not admit(limits, 0)
    assert admit(limits, 2, holder("other", "globex"))
    wall.now += 101
    assert admit(limits, 2)


def test_an_event_that_kafka_has_not_acknowledged_does_not_use_the_quota():
    limits = limits_of(events_per_day=1)
    assert [admit(limits) for _ in range(5)] == [True] * 5


def test_a_tenants_own_quota_overrides_the_default():
    assert not admit(limits_of(events_per_day=5), 10)
    assert admit(limits_of(events_per_day=5), 10, holder(events_per_day=10))
    assert not admit(limits_of(), 10, holder(events_per_day=9))


class Shared:
    """A fake of the table of rates, in memory; computes what the statement SHARE_RATES computes."""

    def __init__(self, clock):
        self.clock = clock
        self.tats = {}

    async def share_rates(self, _, used):
        ahead = {}
        for prefix, policy, spent, age in used:
            floor = self.clock.now - age.total_seconds()
            tat = max(self.tats.get((prefix, policy), floor), floor) + spent.total_seconds()
            self.tats[prefix, policy] = tat
            ahead[prefix, policy] = timedelta(seconds=tat - self.clock.now)
        return ahead


@contextlib.asynccontextmanager
async def no_transaction(_):
    yield None


class Fleet:
    """Three gateways that share their usage, on one clock. `let_in`: time and cost of each admitted request."""

    def __init__(self, **over):
        self.clock, self.let_in = Clock(), list[tuple[float, int]]()
        self.gateways = [limits_of(self.clock, **over) for _ in range(3)]
        self._sharing = [Sharing(gateway, None) for gateway in self.gateways]
        self._shared = [self.clock.now + number / 3 for number in range(3)]
        self.longest = SHARE_SECONDS

    async def play(self, moves):
        """Each move: the number of the gateway, the seconds until the request, and its cost."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(repository, "share_rates", Shared(self.clock).share_rates)
            patch.setattr(tasks, "transaction", no_transaction)
            for which, gap, cost in moves:
                self.clock.now += gap
                await self._share()
                if admit(self.gateways[which], cost) and cost:
                    self.let_in.append((self.clock.now, cost))

    async def _share(self):
        for number, each in enumerate(self._sharing):
            since = self.clock.now - self._shared[number]
            if since >= SHARE_SECONDS:
                self.longest, self._shared[number] = max(self.longest, since), self.clock.now
                await each._share_rates()


moves = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0, 0.4), st.sampled_from([0, 1, 5, 30])), min_size=20, max_size=150
)


@given(moves, st.integers(1, 100), bursts)
def test_several_gateways_together_exceed_the_rate_by_no_more_than_the_stated_error(moves, rate, burst):
    fleet = Fleet(events_per_second=rate, burst_seconds=burst)
    asyncio.run(fleet.play(moves))
    error = 3 * (burst * rate + fleet.longest * rate + 29)
    for first, (began, _) in enumerate(fleet.let_in):
        taken = 0
        for now, cost in fleet.let_in[first:]:
            taken += cost
            assert taken <= error + rate * (now - began) + 0.1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 20), st.floats(0, 2)), max_size=60), rates)
def test_a_client_that_keeps_to_rate_and_burst_is_refused_by_none_of_several_gateways(moves, rate):
    """The client sends bursts of up to the whole burst, each followed by at least the pause that its cost requires."""
    fleet, conforming = Fleet(events_per_second=rate, burst_seconds=2), []
    for which, share, pause in moves:
        cost = max(1, 2 * rate * share // 20)
        conforming += [(which, 0, cost), (which, cost / rate + pause, 0)]
    asyncio.run(fleet.play(conforming))
    assert len(fleet.let_in) == len(moves)


def test_several_gateways_keep_the_rate_in_the_long_run():
    fleet = Fleet(events_per_second=100, burst_seconds=1)
    asyncio.run(fleet.play((number % 3, 0.002, 1) for number in range(150_000)))
    seconds, let_in = 300, len(fleet.let_in)
    assert 100 * seconds <= let_in <= 100 * seconds + 3 * 200


def test_sharing_rates_restores_nothing_that_a_gateway_itself_has_admitted():
    fleet = Fleet(events_per_second=10, burst_seconds=2)
    asyncio.run(fleet.play([(0, 0, 1), (0, 0.9, 20), (0, 0.2, 0), *[(0, 0, 1)] * 20]))
    assert sum(cost for _, cost in fleet.let_in) == 1 + 20 + 2


@pytest.fixture
def shared(api_engine):
    """Sessions on the test's database, with the role of the gateway's API."""
    return sessions_of(api_engine)


@pytest.fixture
def gateways(shared):
    """Four gateways on one database, with a rate of 1 event per second. The gateways' own clocks stand still."""
    return [
        (gateway, Sharing(gateway, shared))
        for gateway in (limits_of(events_per_second=1, burst_seconds=60) for _ in range(4))
    ]


async def test_gateways_learn_from_the_database_what_other_gateways_admitted(gateways):
    (first, sharing_first), (other, sharing_other), *_ = gateways
    assert admit(first, 45)
    assert admit(other, 45)
    await sharing_first.share()
    await sharing_other.share()
    assert admit(first, 15)
    assert not admit(other)

    await sharing_first.share()
    assert 40 < int(refusal(first).headers["Retry-After"]) <= 46


async def test_events_admitted_while_rates_are_being_shared_are_counted(gateways, monkeypatch):
    (first, sharing_first), (other, sharing_other), *_ = gateways
    share_rates = repository.share_rates

    async def and_let_in_more(session, used):
        ahead = await share_rates(session, used)
        assert admit(first, 10)
        return ahead

    assert admit(other, 45)
    await sharing_other.share()
    assert admit(first, 10)
    monkeypatch.setattr(repository, "share_rates", and_let_in_more)
    await sharing_first.share()
    assert 0 < int(refusal(first, 1).headers["Retry-After"]) <= 6


async def test_usage_that_several_gateways_share_at_once_is_counted_completely(gateways, sessions):
    callers = [holder(f"k{number}") for number in range(20)]
    for _ in range(5):
        for gateway, _ in gateways:
            for key in callers:
                assert admit(gateway, 1, key)
                gateway.quotas.sent(key, 1)
        await asyncio.gather(*(each.share() for _, each in gateways))

    async with sessions() as session:
        ahead = (await session.scalars(text("SELECT extract(epoch FROM tat - now())::float FROM rates"))).all()
        days = (await session.execute(text("SELECT tenant_id, events FROM quotas"))).all()
    assert len(ahead) == 20
    assert all(4 * 5 - 5 < seconds <= 4 * 5 for seconds in ahead)
    assert days == [("acme", 4 * 5 * 20)]


async def test_events_are_summed_over_gateways_separately_for_each_day(shared):
    walls = [Clock(MIDNIGHT), Clock(MIDNIGHT)]
    gateways = [limits_of(wall=wall, events_per_day=10) for wall in walls]
    shares = [Sharing(gateway, shared) for gateway in gateways]

    async def send(which, count):
        """Returns how many of the tenant's events of its day this gateway then knows."""
        gateways[which].quotas.sent(holder(), count)
        await shares[which].share()
        return gateways[which].quotas.days["acme"].shared

    assert [await send(0, 4), await send(1, 4), await send(0, 1)] == [4, 8, 9]
    assert not admit(gateways[0], 2)
    assert admit(gateways[0], 1)

    walls[0].now += 86_400
    assert await send(0, 2) == 2
    assert await send(1, 1) == 9, "a gateway whose day has not ended counts nothing into the next one"
    walls[1].now += 86_400
    assert [await send(1, 3), await send(0, 1)] == [5, 6]


async def test_without_the_database_a_gateway_limits_alone_and_later_shares_quotas_but_not_rates(
    sessions, shared, capsys
):
    limits = limits_of(events_per_day=100)
    share = Sharing(limits, sessions_of(create_engine("postgresql://nobody@127.0.0.1:1/none", "tests")))
    assert admit(limits, 20)
    limits.quotas.sent(holder(), 20)
    sharing_limits = Recurring("share limits", 1, share.share)
    for _ in range(3):
        await sharing_limits.once()
    assert not admit(limits)
    assert capsys.readouterr().out.count("task.failed") == 1

    share._sessions = shared
    await sharing_limits.once()
    async with sessions() as session:
        assert (await session.execute(text("SELECT count(*) FROM rates"))).scalar() == 0
        assert (await session.execute(text("SELECT events FROM quotas"))).scalar() == 20


async def test_a_hanging_database_delays_no_request_and_loses_no_count(sessions, shared, monkeypatch):
    monkeypatch.setattr(tasks, "GIVE_UP_SECONDS", 0.1)
    limits = limits_of(events_per_day=100)
    share = Sharing(limits, shared)
    admit(limits, 5)
    limits.quotas.sent(holder(), 5)
    async with transaction(sessions) as session:
        await session.execute(text("LOCK TABLE quotas, rates IN ACCESS EXCLUSIVE MODE"))
        sharing_now = asyncio.create_task(share.share())
        assert admit(limits, 15)
        with pytest.raises(TimeoutError):
            await sharing_now
    limits.quotas.sent(holder(), 15)
    await share.share()
    async with sessions() as session:
        assert (await session.execute(text("SELECT events FROM quotas"))).scalar() == 20


EVENT = {"specversion": "1.0", "source": "/crm", "type": "customer.updated", "data": {"customer_id": "C-1"}}


def event(number):
    return EVENT | {"id": f"e{number}"}


async def send(door, payload):
    kind = "cloudevents-batch+json" if isinstance(payload, list) else "cloudevents+json"
    return await door.post("/v1/events", content=json.dumps(payload), headers={"Content-Type": f"application/{kind}"})


async def test_answers_to_events_have_ratelimit_headers_and_are_429_above_the_rate(open_door, log):
    door = await open_door(events_per_second=1, burst_seconds=60)
    accepted = await send(door, event(1))
    assert (accepted.status_code, accepted.headers["ratelimit"]) == (202, '"events";r=59;t=60')
    assert accepted.headers["ratelimit-policy"] == '"events";q=60;w=60'
    assert (await send(door, {"id": "wrong"})).headers["ratelimit"] == '"events";r=58;t=60'
    feedback = await door.post("/v1/feedback", json={"kind": "text", "channel": "web", "text": "Fine."})
    assert (feedback.status_code, feedback.headers["ratelimit"]) == (202, '"events";r=57;t=60')
    batch = await send(door, [event(number) for number in range(100, 200)])
    assert batch.status_code == 202
    assert batch.headers["ratelimit"].startswith('"events";r=0;t=4')

    for payload in (event(2), [event(3), event(4)]):
        refused = await send(door, payload)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert refused.json()["type"] == "urn:touchpoint:problem:rate-limited"
        assert 40 < int(refused.headers["retry-after"]) <= 44
    assert len(await log()) == 102


async def test_answers_to_queries_and_commands_have_ratelimit_headers_and_are_429_above_the_rate(open_door, behind):
    door = await open_door(
        requests_per_second=1, burst_seconds=4, **{f"{name}_url": behind.url for name in ("feedback", "escalation")}
    )
    behind.answer = lambda _: JSONResponse({}, 404)
    asked = [
        ("GET", "/v1/feedback"), ("POST", "/v1/escalations/7/resolve"), ("GET", "/v1/events/%2Fcrm/1"),
        ("GET", "/v1/nothing"), ("GET", "/v1/escalations"),
    ]  # fmt: skip
    left = [(await door.request(method, path)).headers.get("ratelimit") for method, path in asked]
    assert left == ['"requests";r=3;t=4', '"requests";r=2;t=4', '"requests";r=1;t=4', None, '"requests";r=0;t=1']
    before = len(behind.asked)
    refused = await door.get("/v1/feedback")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert len(behind.asked) == before
    assert (await send(door, event(1))).status_code == 202


async def test_a_large_body_uses_the_rate_by_its_size_even_if_it_is_invalid(open_door):
    door = await open_door(events_per_second=1, burst_seconds=60)
    no_batch = {"content": b"[" + b"x" * 100_000, "headers": {"Content-Type": "application/cloudevents-batch+json"}}
    assert (await door.post("/v1/events", **no_batch)).status_code == 400
    assert (await send(door, event(1))).headers["ratelimit"] == '"events";r=53;t=60'
    for path in ("/v1/events", "/v1/feedback"):
        large = {"content": b"x" * 40_000, "headers": {"Content-Type": "application/json", "ce-id": "1"}}
        assert (await door.post(path, **large)).status_code in (400, 422)
    assert (await send(door, event(1))).headers["ratelimit"] == '"events";r=48;t=60'


async def test_an_unauthorized_request_gets_no_ratelimit_headers(open_door):
    door = await open_door(scopes={Scope.FEEDBACK_READ})
    for answer in (await send(door, event(1)), await door.get("/v1/feedback", headers={"Authorization": ""})):
        assert answer.status_code in (401, 403)
        assert "ratelimit" not in answer.headers


async def test_limits_set_for_a_key_and_a_tenant_apply_to_their_requests(open_door, sessions):
    door = await open_door()
    async with transaction(sessions) as session:
        [key] = await keys_repository.list_keys(session)
        await keys.limit(session, key.prefix, 7, None)
        await keys.set_quota(session, "acme", 3)

    answer = await send(door, [event(1), event(2)])
    assert answer.headers["ratelimit-policy"] == '"events";q=35;w=5, "daily";q=3;w=86400'
    assert answer.headers["ratelimit"].startswith('"events";r=33;t=5, "daily";r=1;t=')
    refused = await send(door, [event(3), event(4)])
    assert refused.json()["type"] == "urn:touchpoint:problem:quota-exceeded"
    assert (await send(door, event(3))).status_code == 202
    assert (await send(door, event(4))).status_code == 429


async def test_a_database_clock_that_was_an_hour_ahead_leaves_no_key_exhausted(sessions):
    used = [repository.Spent("p", "events", timedelta(seconds=2), timedelta(0))]
    async with transaction(sessions) as session:
        await repository.share_rates(session, used)
        await session.execute(
            text("UPDATE rates SET tat = tat + interval '1 hour', shared_at = shared_at + interval '1 hour'")
        )
    async with transaction(sessions) as session:
        ahead = await repository.share_rates(session, used)
    assert ahead["p", "events"] <= timedelta(seconds=4), "what it has used, and no hour"
