"""Prints dead letters on a terminal: the causes, a list, and one dead letter in full."""

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
        "The record breaks Kafka's format, or an operator skipped a batch that did. The reason above says what is "
        "wrong.",
        "Find the client that wrote it and have its owner send the events again through the gateway.",
        "If the offsets can be read by now, apply their events with `touchpoint replay plan`: see docs/replay.md.",
        "Then close the dead letter: touchpoint dlq discard --fingerprint {fingerprint}",
    ),
    "decode": (
        "The record is not an event: a header or the key is missing or broken. Find the program that writes to this "
        "topic without the gateway.",
        "Have its owner send the event again through the gateway, then: "
        "touchpoint dlq discard --fingerprint {fingerprint}",
    ),
    "validate": (
        "The event's data breaks this consumer's version of the contract, docs/events/{type}.json.",
        "If the writer is newer than {consumer}, upgrade {consumer}, then: "
        "touchpoint dlq redrive --fingerprint {fingerprint}",
        "If not, the event can never be read: touchpoint dlq discard --fingerprint {fingerprint}",
    ),
    "handle": (
        "The handler refused the event or failed: see the reason above. An unexpected error names its line of code.",
        "Fix and deploy {consumer}, then: touchpoint dlq redrive --fingerprint {fingerprint}",
    ),
}
"""Advice for the operator, by the stage at which the event failed."""


def causes(rows: Sequence[dict[str, Any]]) -> None:
    """Print a paragraph for each cause."""
    if not rows:
        typer.echo("No dead letters.")
        return
    for each in rows:
        counts = ", ".join(f"{each[state]:,} {state}" for state in ("open", "redriven", "discarded") if each[state])
        first, last = (f"{each[name]:%Y-%m-%d %H:%M:%S}" for name in ("first_failed_at", "last_failed_at"))
        typer.echo(f"{each['fingerprint']}  {each['consumer']}  {_shown(each['type'])}: {counts}")
        typer.echo(wrapped(f"{each['stage']}: {each['error']}: {_shown(each['reason'])}", "  "))
        affected = f"{_many(each['customers'], 'customer')} of {_many(each['tenants'], 'tenant')}"
        typer.echo(f"  {first} to {last}, {affected}")
        typer.echo(f"  example: touchpoint dlq show {each['example']}\n")


def letters(rows: Sequence[dict[str, Any]]) -> None:
    """Print two lines for each dead letter: position, time, state, attempts; consumer, type, customer, cause."""
    if not rows:
        typer.echo("No dead letters.")
    for letter in rows:
        times = _many(letter["attempt"], "attempt")
        typer.echo(f"{_place(letter):<24}  {letter['failed_at']:%Y-%m-%d %H:%M:%S}  {letter['state']}, {times}")
        owner = " / ".join(_shown(letter[name]) for name in ("tenant_id", "customer_id") if letter[name])
        details = f"{letter['consumer']}, {_shown(letter['type'])}, {owner or 'customer unknown'}"
        typer.echo(wrapped(f"{details}, cause {letter['fingerprint']}", "  "))


def place(letters: Sequence[dict[str, Any]], records: Sequence[Record], offset: int) -> None:
    """Print all about one offset: its dead letters' errors, its event, the customer's other events, and advice.

    Dead letters of several consumers with the same cause are printed together.
    """
    causes = [[*same] for _, same in groupby(sorted(letters, key=_CAUSE), _CAUSE)]
    for same in causes:
        _print_error(same)
    if not causes:
        typer.echo("No consumer has a dead letter at this offset.\n")
    _print_event(next(record for record in records if record.offset == offset))
    _print_neighbours(records, offset)
    for same in causes:
        _print_advice(same)


_CAUSE = itemgetter("fingerprint", "state", "consumer_version")


def _print_error(same: Sequence[dict[str, Any]]) -> None:
    each = same[0]
    typer.echo(f"{_consumers(same)} could not handle {_place(each)}; it is {each['state']}.")
    first, times = f"{each['failed_at']:%Y-%m-%d %H:%M:%S}", max(letter["attempt"] for letter in same)
    details = {
        "what": f"{each['stage']}: {each['error']}: {_shown(each['reason'])}",
        "cause": each["fingerprint"],
        "failed": first if times == 1 else f"{first} first, {times} times in all",
        "consumer": f"version {each['consumer_version']}",
        "trace": each["traceparent"] and _shown(each["traceparent"]),
        "closed": each["closed_at"] and f"{each['closed_at']:%Y-%m-%d %H:%M:%S}: {each['closed_reason']}",
    }
    for name, value in details.items():
        if value:
            typer.echo(wrapped(f"  {name:<12}  {value}", hanging=" " * 16))
    typer.echo()


def _consumers(same: Sequence[dict[str, Any]]) -> str:
    return ", ".join(letter["consumer"] for letter in same)


def _print_event(record: Record) -> None:
    typer.echo("The event")
    typer.echo(f"  {'key':<12}  {_shown(record.key)}")
    for name, value in record.headers:
        typer.echo(f"  {_shown(name).removeprefix('ce_'):<12}  {_shown(value)}")
    if isinstance(record.value, Flawed):
        typer.echo(f"  the record breaks Kafka's format: {record.value.fault}")
    try:
        typer.echo(indent(json.dumps(json.loads(record.value), indent=2), "  "))
    except (ValueError, RecursionError):
        typer.echo(f"  {_shown(record.value)}")
    typer.echo()


def _shown(strange: bytes | str | None) -> str:
    """Untrusted text made safe for a terminal: characters that are not printable are replaced."""
    text = strange if isinstance(strange, str) else (strange or b"").decode(errors="replace")
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _print_neighbours(records: Sequence[Record], offset: int) -> None:
    typer.echo("The customer's events around it, in log order")
    for record in records:
        headers = attributes(record.headers)
        event = "  ".join(_shown(headers.get(f"ce_{name}")) for name in ("time", "type", "id"))
        typer.echo(f"  {'→' if record.offset == offset else ' '} {record.offset:>10}  {event}")
    typer.echo()


def _print_advice(same: Sequence[dict[str, Any]]) -> None:
    typer.echo(f"What to try for {_consumers(same)}")
    values = {"consumer": _consumers(same), "type": _shown(same[0]["type"]), "fingerprint": same[0]["fingerprint"]}
    for line in TRY[same[0]["stage"]]:
        advice, _, command = line.format(**values).partition(": touchpoint ")
        typer.echo(wrapped(f"{advice}:" if command else advice, "  "))
        if command:
            typer.echo(f"    touchpoint {command}")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _place(letter: dict[str, Any]) -> str:
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
