"""How dead letters look on a terminal, and in JSON what is no table."""

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from textwrap import indent
from typing import Any

import typer

from touchpoint.base.lines import wrapped
from touchpoint.contracts.record import Flawed, Record, attributes

TRY = {
    "read": (
        "It breaks Kafka's own format, or an operator passed over a batch that did. The reason says what is wrong.",
        "Whose client wrote it? Have them send the events again through the gateway.",
        "If it can be read by now, `touchpoint replay plan` applies what its offsets hold: see docs/replay.md.",
        "Then: touchpoint dlq discard --fingerprint {fingerprint}",
    ),
    "decode": (
        "It is no event: a header or the key is missing or broken. Who writes to this topic beside the gateway?",
        "Have the sender send it again through the gateway, then: touchpoint dlq discard --fingerprint {fingerprint}",
    ),
    "validate": (
        "Its data breaks the contract of its type, docs/events/{type}.json, as this consumer knows it.",
        "Is the writer newer than {consumer}? Upgrade that, then: touchpoint dlq redrive --fingerprint {fingerprint}",
        "Else it can never be read: touchpoint dlq discard --fingerprint {fingerprint}",
    ),
    "handle": (
        "The handler refused it, or failed: the reason is above. An unexpected error names its place in the code.",
        "Mend and deploy {consumer}, then: touchpoint dlq redrive --fingerprint {fingerprint}",
    ),
}
"""What to try, by the stage at which it failed."""


def causes(found: Sequence[dict[str, Any]]) -> None:
    """A paragraph for each cause."""
    if not found:
        typer.echo("No dead letters.")
        return
    for each in found:
        counts = ", ".join(f"{each[state]:,} {state}" for state in ("open", "redriven", "discarded") if each[state])
        first, last = (f"{each[name]:%Y-%m-%d %H:%M:%S}" for name in ("first_failed_at", "last_failed_at"))
        typer.echo(f"{each['fingerprint']}  {each['consumer']}  {_shown(each['type'])}: {counts}")
        typer.echo(wrapped(f"{each['stage']}: {each['error']}: {_shown(each['reason'])}", "  "))
        whom = f"{_many(each['customers'], 'customer')} of {_many(each['tenants'], 'tenant')}"
        typer.echo(f"  {first} to {last}, {whom}")
        typer.echo(f"  example: touchpoint dlq show {each['example']}\n")


def letters(found: Sequence[dict[str, Any]]) -> None:
    """Two lines for each dead letter: where it lies and since when; whose it is and why."""
    if not found:
        typer.echo("No dead letters.")
    for one in found:
        times = _many(one["attempt"], "attempt")
        typer.echo(f"{_place(one):<24}  {one['failed_at']:%Y-%m-%d %H:%M:%S}  {one['state']}, {times}")
        whose = " / ".join(_shown(one[name]) for name in ("tenant_id", "customer_id") if one[name]) or "of nobody known"
        typer.echo(wrapped(f"{one['consumer']}, {_shown(one['type'])}, {whose}, cause {one['fingerprint']}", "  "))


def one(found: Sequence[dict[str, Any]], records: Sequence[Record], offset: int) -> None:
    """All about the dead letters of one place: the errors, the event, its customer's others, and what to try."""
    causes = [[*same] for _, same in groupby(sorted(found, key=_CAUSE), _CAUSE)]
    for same in causes:
        _print_error(same)
    if not causes:
        typer.echo("No consumer has a dead letter of this one.\n")
    _print_event(next(record for record in records if record.offset == offset))
    _print_neighbours(records, offset)
    for same in causes:
        _print_advice(same)


_CAUSE = itemgetter("fingerprint", "state", "consumer_version")


def _print_error(same: Sequence[dict[str, Any]]) -> None:
    each = same[0]
    typer.echo(f"{_consumers(same)} could not handle {_place(each)}; it is {each['state']}.")
    first, times = f"{each['failed_at']:%Y-%m-%d %H:%M:%S}", max(one["attempt"] for one in same)
    said = {
        "what": f"{each['stage']}: {each['error']}: {_shown(each['reason'])}",
        "cause": each["fingerprint"],
        "failed": first if times == 1 else f"{first} first, {times} times in all",
        "consumer": f"version {each['consumer_version']}",
        "trace": each["traceparent"] and _shown(each["traceparent"]),
        "closed": each["closed_at"] and f"{each['closed_at']:%Y-%m-%d %H:%M:%S}: {each['closed_reason']}",
    }
    for name, value in said.items():
        if value:
            typer.echo(wrapped(f"  {name:<12}  {value}", hanging=" " * 16))
    typer.echo()


def _consumers(same: Sequence[dict[str, Any]]) -> str:
    return ", ".join(one["consumer"] for one in same)


def _print_event(record: Record) -> None:
    typer.echo("The event")
    typer.echo(f"  {'key':<12}  {_shown(record.key)}")
    for name, value in record.headers:
        typer.echo(f"  {_shown(name).removeprefix('ce_'):<12}  {_shown(value)}")
    if isinstance(record.value, Flawed):
        typer.echo(f"  Kafka's own format is broken: {record.value.fault}")
    try:
        typer.echo(indent(json.dumps(json.loads(record.value), indent=2), "  "))
    except (ValueError, RecursionError):
        typer.echo(f"  {_shown(record.value)}")
    typer.echo()


def _shown(strange: bytes | str | None) -> str:
    """What a stranger wrote, as text that does nothing to a terminal."""
    text = strange if isinstance(strange, str) else (strange or b"").decode(errors="replace")
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _print_neighbours(records: Sequence[Record], offset: int) -> None:
    typer.echo("The customer's events around it, as they lie in the log")
    for record in records:
        said = attributes(record.headers)
        what = "  ".join(_shown(said.get(f"ce_{name}")) for name in ("time", "type", "id"))
        typer.echo(f"  {'→' if record.offset == offset else ' '} {record.offset:>10}  {what}")
    typer.echo()


def _print_advice(same: Sequence[dict[str, Any]]) -> None:
    typer.echo(f"What to try for {_consumers(same)}")
    said = {"consumer": _consumers(same), "type": _shown(same[0]["type"]), "fingerprint": same[0]["fingerprint"]}
    for line in TRY[same[0]["stage"]]:
        advice, _, command = line.format(**said).partition(": touchpoint ")
        typer.echo(wrapped(f"{advice}:" if command else advice, "  "))
        if command:
            typer.echo(f"    touchpoint {command}")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _place(one: dict[str, Any]) -> str:
    return f"{one['topic']}/{one['partition']}/{one['offset']}"
