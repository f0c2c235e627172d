"""Each planted truth, computed again from the events alone, and compared with the truths file."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

Year = tuple[list[dict[str, Any]], dict[str, Any]]


def test_the_file_describes_the_world(year: Year) -> None:
    described = year[1]["world"]
    assert (described["customers"], described["days"], described["seed"]) == (1200, 365, 11)
    assert (described["start"], described["until"]) == ("2024-12-30T00:00:00Z", "2025-12-30T00:00:00Z")
    assert all(f"/sample/{described['key']}/" in event["source"] for event in year[0])
    for truth in ("late_deliveries", "broken_exports", "slow_channel", "changed_mix"):
        assert set(year[1][truth]) == {"truth", "planted", "check", "counted"}


def test_a_late_delivery_costs_points(year: Year) -> None:
    events, described = year
    last: dict[str, str] = {}
    scores: dict[str, list[int]] = defaultdict(list)
    for event in events:
        data = event["data"]
        if data.get("kind") == "delivery":
            last[data["customer_id"]] = data["outcome"]
        elif data.get("kind") == "nps" and data["customer_id"] in last:
            scores[last[data["customer_id"]]].append(data["score"]["value"])
    truth = described["late_deliveries"]
    for outcome in ("late", "on time"):
        counted = truth["counted"][outcome]
        assert (counted["n"], counted["score_sum"]) == (len(scores[outcome]), sum(scores[outcome]))
    difference = sum(scores["late"]) / len(scores["late"]) - sum(scores["on time"]) / len(scores["on time"])
    assert abs(difference - truth["counted"]["difference"]) < 0.001
    assert abs(difference - truth["planted"]["points"]) < 0.4
    share = len(scores["late"]) / (len(scores["late"]) + len(scores["on time"]))
    assert abs(share - truth["planted"]["late_percent"] / 100) < 0.04


def test_the_release_of_week_30_breaks_exports_for_four_weeks(year: Year) -> None:
    events, described = year
    start = datetime.fromisoformat("2024-12-30T00:00:00Z")
    exports, answers, satisfied = Counter[int](), Counter[int](), Counter[int]()
    for event in events:
        week = (datetime.fromisoformat(event["time"]) - start) // timedelta(weeks=1) + 1
        data = event["data"]
        if event["type"] == "ticket.opened":
            exports[week] += "exports" in data["tags"]
        elif data.get("kind") == "csat":
            answers[week] += 1
            satisfied[week] += data["score"]["value"] >= 4
    truth = described["broken_exports"]
    assert truth["planted"]["week"] == 30
    for number, counted in truth["counted"]["weeks"].items():
        week = int(number)
        expected = (exports[week], answers[week], satisfied[week])
        assert (counted["export_tickets"], counted["csat_n"], counted["csat_satisfied"]) == expected

    def share(first: int, last: int) -> float:
        weeks = range(first, last + 1)
        return sum(satisfied[week] for week in weeks) / sum(answers[week] for week in weeks)

    assert exports[30] > 3 * sum(exports[week] for week in range(26, 30)) / 4
    for phase, weeks in (("before", (26, 29)), ("broken", (30, 33)), ("after", (35, 38))):
        assert truth["counted"][phase]["csat"] == round(share(*weeks), 4)
    assert share(30, 33) < share(26, 29) - 0.07
    assert share(30, 33) < share(35, 38) - 0.07


def test_the_team_of_a_channel_takes_a_multiple_of_anothers_time(year: Year) -> None:
    events, described = year
    opened: dict[str, tuple[str, datetime]] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for event in events:
        data, time = event["data"], datetime.fromisoformat(event["time"])
        if event["type"] == "ticket.opened":
            opened[data["ticket_id"]] = (data["channel"], time)
        elif event["type"] == "ticket.replied" and data["author"] == "agent" and data.get("public", True):
            channel, begun = opened.pop(data["ticket_id"], ("", time))
            if channel:
                seconds[channel].append((time - begun).total_seconds())
    truth = described["slow_channel"]
    for channel, counted in truth["counted"]["channels"].items():
        assert (counted["n"], counted["total_seconds"]) == (len(seconds[channel]), sum(seconds[channel]))
    slow, compared = (seconds[truth["planted"][name]] for name in ("channel", "compared_with"))
    ratio = (sum(slow) / len(slow)) / (sum(compared) / len(compared))
    assert abs(ratio - truth["counted"]["ratio"]) < 0.001
    assert abs(ratio / truth["planted"]["times"] - 1) < 0.2


def nps(scores: list[int]) -> float:
    return 100 * (sum(score >= 9 for score in scores) - sum(score <= 6 for score in scores)) / len(scores)


def answers_by_segment(events: list[dict[str, Any]], begin: str, end: str) -> dict[str, list[int]]:
    """The scores that were given in a range of time, by the segment of the customer at that time."""
    segment: dict[str, str] = {}
    answers: dict[str, list[int]] = defaultdict(list)
    for event in events:
        data = event["data"]
        if event["type"] == "customer.updated" and "segment" in data:
            segment[data["customer_id"]] = data["segment"]
        elif data.get("kind") == "nps" and begin <= event["time"] < end:
            answers[segment[data["customer_id"]]].append(data["score"]["value"])
    return answers


def test_the_nps_falls_by_the_mix_alone(year: Year) -> None:
    events, described = year
    counted = described["changed_mix"]["counted"]
    answers = {name: answers_by_segment(events, each["from"], each["to"]) for name, each in counted.items()}
    overall = {name: nps([score for scores in each.values() for score in scores]) for name, each in answers.items()}
    for name, quarter in counted.items():
        assert quarter["overall"]["nps"] == round(overall[name], 2)
        total = sum(map(len, answers[name].values()))
        for each, expected in quarter["segments"].items():
            assert (expected["n"], expected["nps"]) == (len(answers[name][each]), round(nps(answers[name][each]), 2))
            assert expected["share"] == round(len(answers[name][each]) / total, 4)
    assert overall["last"] < overall["first"] - 10
    for each in answers["first"]:
        assert abs(nps(answers["last"][each]) - nps(answers["first"][each])) < 6
    shares = [counted[name]["segments"]["small-business"]["share"] for name in ("first", "last")]
    assert shares[1] > shares[0] + 0.2
