"""The planted truths of a world: what was put into it, and what its events show, counted while they are written.

The counts follow the rules of metrics-svc: an answer counts when it is given, a first response at the time of the
reply, and the segment is the customer's at that time.
"""

from collections import defaultdict
from typing import Any

from touchpoint.sample import dates, surveys, tickets, trade, world
from touchpoint.sample.dates import DAY
from touchpoint.sample.people import SEGMENTS
from touchpoint.sample.schedule import Frame, Made

Counts = dict[str, Any]


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _mean(total: int, count: int) -> float | None:
    return round(total / count, 3) if count else None


def _nps(counts: list[int]) -> Counts:
    """Counts of answers, promoters and detractors as JSON, with the NPS in points."""
    n, promoters, detractors = counts
    value = round(100 * (promoters - detractors) / n, 2) if n else None
    return {"n": n, "promoters": promoters, "detractors": detractors, "nps": value}


class Truths:
    """Counts the events of a world. Memory: a few bytes for each customer and each unanswered ticket."""

    def __init__(self, frame: Frame, until: int) -> None:
        self.frame, self.until = frame, until
        self.events = 0
        quarter = frame.days // 4 * DAY
        self.first_quarter = (frame.start, frame.start + quarter)
        self.last_quarter = (max(until - quarter, frame.start), until)
        self._segments: dict[str, str] = {}
        self._mix = {name: defaultdict[str, list[int]](lambda: [0, 0, 0]) for name in ("first", "last")}
        self._delivered: dict[str, str] = {}
        self._after = {"late": [0, 0], "on time": [0, 0]}
        self._opened: dict[str, tuple[str, int]] = {}
        self._responses = defaultdict[str, list[int]](lambda: [0, 0])
        self._weeks = defaultdict[int, list[int]](lambda: [0, 0, 0])

    def count(self, event: Made) -> None:
        """Count an event; all events are given in order."""
        self.events += 1
        counted = _COUNTED.get(event.type)
        if counted is not None:
            counted(self, event.time, event.data)

    def _count_customer(self, _: int, data: Counts) -> None:
        if segment := data.get("segment"):
            self._segments[data["customer_id"]] = segment

    def _count_interaction(self, _: int, data: Counts) -> None:
        if data["kind"] == "delivery":
            self._delivered[data["customer_id"]] = data["outcome"]

    def _count_opened(self, time: int, data: Counts) -> None:
        self._opened[data["ticket_id"]] = (data["channel"], time)
        if "exports" in data["tags"]:
            self._weeks[self._week(time)][0] += 1

    def _count_reply(self, time: int, data: Counts) -> None:
        if data["author"] == "agent" and data.get("public", True) and data["ticket_id"] in self._opened:
            channel, opened = self._opened.pop(data["ticket_id"])
            response = self._responses[channel]
            response[0] += 1
            response[1] += time - opened

    def _count_feedback(self, time: int, data: Counts) -> None:
        if data["kind"] == "csat":
            week = self._weeks[self._week(time)]
            week[1] += 1
            week[2] += data["score"]["value"] >= 4
        elif data["kind"] == "nps":
            self._count_nps(time, data["customer_id"], data["score"]["value"])

    def _count_nps(self, time: int, customer: str, score: int) -> None:
        if customer in self._delivered:
            after = self._after[self._delivered[customer]]
            after[0] += 1
            after[1] += score
        for name, (begin, end) in (("first", self.first_quarter), ("last", self.last_quarter)):
            if begin <= time < end:
                counts = self._mix[name][self._segments[customer]]
                counts[0] += 1
                counts[1] += score >= 9
                counts[2] += score <= 6

    def _week(self, time: int) -> int:
        """The week of the world, from 1."""
        return (time - self.frame.start) // (7 * DAY) + 1

    def describe(self) -> Counts:
        """All truths as JSON: what it is, what was planted, and the counts of this world's events."""
        frame = self.frame
        return {
            "world": {
                "key": world.key(frame),
                "customers": frame.customers,
                "days": frame.days,
                "seed": frame.seed,
                "start": dates.text(frame.start),
                "until": dates.text(self.until),
                "events": self.events,
            },
            "late_deliveries": self._late_deliveries(),
            "broken_exports": self._broken_exports(),
            "slow_channel": self._slow_channel(),
            "changed_mix": self._changed_mix(),
        }

    def _late_deliveries(self) -> Counts:
        counted = {
            outcome: {"n": n, "score_sum": total, "mean": _mean(total, n)}
            for outcome, (n, total) in self._after.items()
        }
        late, on_time = (_mean(total, n) for n, total in self._after.values())
        difference = None if late is None or on_time is None else round(late - on_time, 3)
        return {
            "truth": "Customers whose last delivery was late give lower NPS scores until the next delivery.",
            "planted": {"late_percent": trade.LATE_PERCENT, "points": -surveys.LATE_COSTS},
            "check": "NPS answers after a delivery, by the outcome of the customer's last interaction.recorded of kind "
            "delivery; the difference of the two mean scores is close to `points` (a score cannot fall below 0)",
            "counted": {**counted, "difference": difference},
        }

    def _weeks_of(self, first: int, last: int) -> Counts | None:
        """What was counted in these weeks of the world, both included; None if the world is not that long."""
        begin, end = (self.frame.start + number * 7 * DAY for number in (first - 1, last))
        if first < 1 or end > self.until:
            return None
        counts = [self._weeks[number] for number in range(first, last + 1)]
        exports, answers, satisfied = (sum(each[place] for each in counts) for place in range(3))
        return {
            "from": dates.text(begin),
            "to": dates.text(end),
            "export_tickets": exports,
            "csat_n": answers,
            "csat_satisfied": satisfied,
            "csat": _share(satisfied, answers),
        }

    def _broken_exports(self) -> Counts:
        week = self._week(self.frame.release)
        weeks = {str(number): self._weeks_of(number, number) for number in range(max(1, week - 4), week + 9)}
        phases = {
            "before": self._weeks_of(week - 4, week - 1),
            "broken": self._weeks_of(week, week + 3),
            "after": self._weeks_of(week + 5, week + 8),
        }
        return {
            "truth": f"The release at the start of week {week} broke exports: tickets about exports jump, CSAT falls, "
            "both recover after four weeks.",
            "planted": {
                "week": week,
                "from": dates.text(self.frame.release),
                "to": dates.text(self.frame.release + tickets.BROKEN_DAYS * DAY),
                "percent_of_customers_with_a_ticket": tickets.BROKEN_PERCENT,
                "satisfied_share_of_these_tickets": _share(sum(score >= 4 for score in surveys.CSAT_BROKEN), 100),
            },
            "check": "ticket.opened with the tag exports, and csat answers with 4 or 5 of 5, by week of the world",
            "counted": {**phases, "weeks": weeks},
        }

    def _slow_channel(self) -> Counts:
        slow, compared = tickets.SLOW_CHANNEL, tickets.COMPARED_CHANNEL
        counted: Counts = {
            channel: {"n": n, "total_seconds": total, "mean_seconds": _mean(total, n)}
            for channel, (n, total) in sorted(self._responses.items())
        }
        means = [counted.get(channel, {}).get("mean_seconds") for channel in (slow, compared)]
        return {
            "truth": f"The team of the channel {slow} takes {tickets.SLOW_FACTOR} times as long for its first response "
            f"as the team of {compared}.",
            "planted": {"channel": slow, "compared_with": compared, "times": tickets.SLOW_FACTOR},
            "check": "first-response by channel: the ratio of the two means is close to `times`",
            "counted": {"channels": counted, "ratio": round(means[0] / means[1], 3) if all(means) else None},
        }

    def _changed_mix(self) -> Counts:
        quarters: Counts = {}
        for name, (begin, end) in (("first", self.first_quarter), ("last", self.last_quarter)):
            counts = self._mix[name]
            total = [sum(each[place] for each in counts.values()) for place in range(3)]
            quarters[name] = {
                "from": dates.text(begin),
                "to": dates.text(end),
                "overall": _nps(total),
                "segments": {
                    segment: {**_nps(counts[segment]), "share": _share(counts[segment][0], total[0])}
                    for segment in sorted(each.label for each in SEGMENTS.values())
                },
            }
        return {
            "truth": "The overall NPS falls although the NPS of each segment stays: the share of small-business, whose "
            "NPS is low, grows.",
            "planted": {"nps_on_time": {each.label: _planted_nps(each.nps) for each in SEGMENTS.values()}},
            "check": "nps by segment in both periods: each segment stays within chance, the overall NPS falls",
            "counted": quarters,
        }


def _planted_nps(table: tuple[int, ...]) -> int:
    return sum(score >= 9 for score in table) - sum(score <= 6 for score in table)


_COUNTED = {
    "customer.updated": Truths._count_customer,
    "interaction.recorded": Truths._count_interaction,
    "ticket.opened": Truths._count_opened,
    "ticket.replied": Truths._count_reply,
    "feedback.submitted": Truths._count_feedback,
}
