"""Where a world goes: to a file, or through the gateway. Both take the events in blocks, as they are made."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import BinaryIO

from touchpoint.importer.gateway import REQUEST_EVENTS, Gateway, Refusal, StoppedError

BLOCK_EVENTS = REQUEST_EVENTS


def blocks(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Events in lists of BLOCK_EVENTS."""
    left = iter(events)
    while block := list(islice(left, BLOCK_EVENTS)):
        yield block


def write(events: Iterable[bytes], file: BinaryIO, show: Callable[[int], None]) -> int:
    """Write events as lines; returns their number. `show` gets the number so far after each block."""
    written = 0
    for block in blocks(events):
        file.write(b"\n".join(block) + b"\n")
        written += len(block)
        show(written)
    return written


def send(
    events: Iterable[bytes], gateway: Gateway, stop: Event, show: Callable[[int], None]
) -> tuple[int, list[Refusal]]:
    """Send events in order, a block while the next is made; returns the number accepted, and who was refused.

    The index of a refusal counts from the first event. When `stop` is set, the current block is completed and
    StoppedError is raised. Other errors are those of `Gateway.send`.
    """
    sent, refused = 0, list[Refusal]()
    under_way: Future[list[Refusal]] | None = None
    size = 0

    def settle() -> None:
        nonlocal sent
        if under_way is not None:
            refused.extend(Refusal(sent + each.index, each.reason) for each in under_way.result())
            sent += size
            show(sent)

    with ThreadPoolExecutor(1, "send") as pool:
        for block in blocks(events):
            settle()
            if stop.is_set():
                raise StoppedError
            under_way, size = pool.submit(gateway.send, block), len(block)
        settle()
    return sent - len(refused), refused
