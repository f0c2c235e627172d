"""Helpers for tests of this project and of services built on it. Nothing here is used in production."""

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, TypeVar

from touchpoint.contracts.base import Event
from touchpoint.db.engine import Sessions, transaction
from touchpoint.kafka.handlers import Context, Handlers

_T = TypeVar("_T")


def modules(package: str, name: str) -> list[ModuleType]:
    """The modules with this name in a package and its rooms, such as `models`, in the order of their full names."""
    every = [module for _, module, _ in walk_packages(import_module(package).__path__, f"{package}.")]
    return [import_module(module) for module in sorted(every) if module.endswith(f".{name}")]


def declarations(package: str, name: str, kind: type[_T]) -> list[_T]:
    """The objects of a type that the modules with this name declare, such as each `Table` in `models`."""
    return [value for module in modules(package, name) for value in vars(module).values() if isinstance(value, kind)]


async def eventually(check: Callable[[], Any | Awaitable[Any]], timeout: float = 20) -> Any:  # noqa: ASYNC109 # polls, so nothing to cancel
    """Call `check` until it returns a true value, and return it: tests wait for conditions instead of sleeping.

    An AssertionError from `check` counts as "not yet". Raises AssertionError with the last value after `timeout`
    seconds.
    """
    deadline = time.monotonic() + timeout
    value: Any = None
    failure: AssertionError | None = None
    while True:
        try:
            value, failure = check(), None
            if inspect.isawaitable(value):
                value = await value
        except AssertionError as not_yet:
            value, failure = None, not_yet
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last: {failure or repr(value)}") from failure
        await asyncio.sleep(0.02)


@asynccontextmanager
async def others() -> AsyncIterator[Counter[str]]:
    """Another task on the event loop; yields a counter of the loop `iterations` it gets."""
    counted = Counter[str]()

    async def count_iterations() -> None:
        while True:
            counted["iterations"] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count_iterations())
    try:
        yield counted
    finally:
        task.cancel()


async def apply(handlers: Handlers, sessions: Sessions, events: Sequence[Event]) -> None:
    """Pass events to a service's handlers as one batch of a consumer, in one transaction, and commit."""
    async with transaction(sessions) as session:
        await handlers.handle([handlers.prepare(event) for event in events], Context(session))
