"""Runs a measurement in a process of its own, so that no other code shares its interpreter."""

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import uvloop

Measure = Callable[..., Awaitable[Any]]


async def apart(measure: Measure, **arguments: Any) -> Any:
    """Await `measure(**arguments)`, a coroutine function of a module, in a new process with uvloop.

    Arguments and result are passed as JSON. Raises RuntimeError if the process fails; cancellation kills the process.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.apart", f"{measure.__module__}:{measure.__qualname__}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        printed, errors = await process.communicate(json.dumps(arguments).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{measure.__qualname__} failed: {errors.decode().strip()}")
    return json.loads(printed)


def settle() -> None:
    """Collect garbage and exclude all existing objects from later collections; call it right before measuring."""
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    print(json.dumps(uvloop.run(getattr(import_module(module), name)(**json.load(sys.stdin)))))  # noqa: T201
