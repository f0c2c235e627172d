"""A world: the same bytes for the same arguments, valid, in order, made while it is read, and believable."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from statistics import median
from typing import Any

import pytest

from touchpoint.base import times
from touchpoint.contracts import sources, touchpoints
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.sample import world
from touchpoint.sample.dates import DAY, season
from touchpoint.sample.schedule import Frame, encode

START = 1_735_516_800
"""2024-12-30, a Monday: the start of the worlds in conftest.py."""

Events = list[dict[str, Any]]
Lines = Callable[[Frame], list[bytes]]

COMMITTED = "a6ba001da890f7737625e26f387e4c4d6e91e8cbd054227095b6afef8aebd60c"
"""The SHA-256 of the small world. Whoever changes the generator changes this and raises `world.VERSION`."""

TYPES = {
    "customer.updated",
    "feedback.submitted",
    "interaction.recorded",
    "subscription.changed",
    "team_feedback.submitted",
    "ticket.opened",
    "ticket.replied",
    "ticket.status_changed",
    "usage.reported",
}


def data_of(events: Events, kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["type"] == kind]


def test_the_same_arguments_make_the_same_bytes(small: list[bytes], lines: Lines) -> None:
    assert lines(Frame(customers=40, days=365, seed=3, start=START)) == small


def test_a_changed_generator_is_noticed(small: list[bytes]) -> None:
    assert hashlib.sha256(b"\n".join(small)).hexdigest() == COMMITTED


def test_neither_hash_seed_nor_locale_nor_zone_matters(small: list[bytes]) -> None:
    code = (
        "import sys; from touchpoint.sample import world; from touchpoint.sample.schedule import Frame, encode\n"
        f"for event in world.events(Frame(40, 365, 3, {START}), {START + 30 * DAY}):\n"
        "    sys.stdout.buffer.write(encode(event, backfill=True) + b'\\n')"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "99", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    written = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert written.splitlines() == small[: written.count(b"\n")]
    assert written.count(b"\n") > 100


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"customers": 41},
        {"days": 364},
        {"start": START + DAY},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_no_id_of_another_world_is_used_again(other: dict[str, int], small_events: Events) -> None:
    frame = Frame(**{"customers": 40, "days": 365, "seed": 3, "start": START} | other)
    others = {event.source for event in islice(world.events(frame), 500)}
    assert others.isdisjoint({event["source"] for event in small_events})


def test_every_event_keeps_its_contract(small_events: Events) -> None:
    for event in small_events:
        contract = REGISTRY[event["type"]]
        read = contract.read(json.dumps(event["data"]).encode())
        assert read.broken_rules() == []
        assert contract.topic == TOUCHPOINTS
        assert sources.wrong(event["source"]) is None
        assert times.read(event["time"])


def test_every_id_is_unique_within_its_source(small_events: Events) -> None:
    assert len({(event["source"], event["id"]) for event in small_events}) == len(small_events)


def test_events_are_in_order_of_time_and_within_the_year(small_events: Events) -> None:
    times = [event["time"] for event in small_events]
    assert times == sorted(times)
    assert times[0] == "2024-12-30T00:00:00Z"
    assert "2025-12-29" <= times[-1] < "2025-12-30"


def test_the_first_events_of_a_huge_world_come_at_once() -> None:
    made = world.events(Frame(customers=1_000_000, days=3650, seed=1, start=START))
    assert len(list(islice(made, 10))) == 10


def test_what_comes_before_a_moment_does_not_depend_on_the_end() -> None:
    frame = Frame(customers=12, days=60, seed=5, start=START)
    short = list(world.events(frame, START + 20 * DAY))
    assert list(islice(world.events(frame), len(short))) == short


def test_life_goes_on_after_the_growth() -> None:
    frame = Frame(customers=12, days=30, seed=5, start=START)
    later = [event for event in world.events(frame, START + 400 * DAY) if event.time > START + 300 * DAY]
    assert {event.type for event in later} >= TYPES - {"team_feedback.submitted"}


@pytest.mark.parametrize("customers", [5, 6, 7])
@pytest.mark.parametrize("days", [1, 8, 40])
def test_the_smallest_worlds_have_events(customers: int, days: int, lines: Lines) -> None:
    made = lines(Frame(customers, days, seed=1, start=START))
    assert made
    assert len(made) == len(set(made))


def test_every_customer_comes(small_events: Events) -> None:
    introduced = [each for each in data_of(small_events, "customer.updated") if "name" in each]
    assert sorted(each["customer_id"] for each in introduced) == [f"C-{1001 + number}" for number in range(40)]
    for each in introduced:
        assert each["segment"] in ("enterprise", "mid-market", "small-business")
        assert each["region"] in ("EMEA", "AMER", "LATAM", "APAC")


def test_all_kinds_of_events_scores_and_changes_occur(year: tuple[Events, dict[str, Any]]) -> None:
    events, _ = year
    assert {event["type"] for event in events} == TYPES - {"usage.reported"}
    kinds = {each["kind"] for each in data_of(events, "feedback.submitted")}
    assert kinds == {"nps", "csat", "ces", "rating", "review"}
    changes = {each["change"] for each in data_of(events, "subscription.changed")}
    assert changes == {"started", "renewed", "expanded", "contracted", "churned"}
    contacts = {each["kind"] for each in data_of(events, "interaction.recorded")}
    assert contacts >= {"purchase", "delivery", "return", "call", "meeting", "onboarding", "visit"}
    replies = data_of(events, "ticket.replied")
    assert {each["author"] for each in replies} == {"agent", "bot", "customer"}
    assert any(each.get("public") is False for each in replies)
    statuses = {each["status"] for each in data_of(events, "ticket.status_changed")}
    assert statuses == {status.value for status in touchpoints.TicketStatus}


def test_texts_come_in_six_languages_and_fit_the_score(year: tuple[Events, dict[str, Any]]) -> None:
    feedback = [each for each in data_of(year[0], "feedback.submitted") if "text" in each]
    assert {each["language"] for each in feedback} == {"en", "de", "es", "fr", "pt", "ja"}
    scores: dict[str, set[int]] = {}
    for each in feedback:
        if each["kind"] == "nps" and each["language"] == "en":
            scores.setdefault(each["text"], set()).add(each["score"]["value"])
    assert all(max(values) <= 6 or min(values) >= 7 for values in scores.values())


def test_some_come_back_after_they_left(year: tuple[Events, dict[str, Any]]) -> None:
    left: set[str] = set()
    back = 0
    for each in data_of(year[0], "subscription.changed"):
        if each["change"] == "churned":
            left.add(each["customer_id"])
        elif each["change"] == "started" and each["customer_id"] in left:
            back += 1
    assert back >= 3


def test_who_left_does_nothing_new(year: tuple[Events, dict[str, Any]]) -> None:
    left: set[str] = set()
    for event in year[0]:
        data = event["data"]
        if event["type"] == "subscription.changed":
            (left.add if data["change"] == "churned" else left.discard)(data["customer_id"])
        elif event["type"] == "ticket.opened" or data.get("kind") in ("nps", "purchase"):
            assert data["customer_id"] not in left


def test_the_company_grows_and_december_is_busier_than_august(year: tuple[Events, dict[str, Any]]) -> None:
    months = Counter(event["time"][:7] for event in year[0] if event["type"] == "ticket.opened")
    assert months["2025-10"] > 1.25 * months["2025-02"]
    assert months["2025-08"] < months["2025-07"]
    assert months["2025-08"] < months["2025-09"]
    assert months["2025-12"] > 1.2 * months["2025-11"]
    assert season(START // DAY) == 1.6


def test_answers_take_longer_at_weekends(year: tuple[Events, dict[str, Any]]) -> None:
    opened: dict[str, datetime] = {}
    waits: dict[bool, list[float]] = {True: [], False: []}
    for event in year[0]:
        data, time = event["data"], datetime.fromisoformat(event["time"])
        if event["type"] == "ticket.opened" and data["channel"] == "email":
            opened[data["ticket_id"]] = time
        elif event["type"] == "ticket.replied" and data["author"] == "agent" and data["ticket_id"] in opened:
            begun = opened.pop(data["ticket_id"])
            waits[begun.weekday() >= 5].append((time - begun).total_seconds())
    assert median(waits[True]) > 3 * median(waits[False])


def test_an_event_is_json_without_floats(small: list[bytes]) -> None:
    def refuse(text: str) -> float:
        raise AssertionError(text)

    for line in small:
        json.loads(line, parse_float=refuse)


def test_backfill_is_marked_only_where_asked() -> None:
    event = next(world.events(Frame(5, 5, 1, START)))
    assert json.loads(encode(event, backfill=True))["backfill"] is True
    assert "backfill" not in json.loads(encode(event, backfill=False))
