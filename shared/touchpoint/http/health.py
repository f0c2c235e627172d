"""The admin endpoints of a process, on an address of their own: /healthz (liveness), /readyz (readiness), /metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from touchpoint.base.explain import explain
from touchpoint.base.telemetry import READY

Check = Callable[[], Awaitable[str | None]]
"""A readiness check: returns None if it passes, else one line that says what is wrong."""


def admin_app(checks: dict[str, Check], beside: ASGIApp | None = None) -> Starlette:
    """The application of the admin port. /readyz answers 503 while any check fails.

    `beside` is an application that handles all other paths.
    """

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> JSONResponse:
        # A copy, as a part of the process that starts meanwhile may add a check.
        failures: dict[str, Any] = {name: await _failure(check) for name, check in list(checks.items())}
        ready = all(failure is None for failure in failures.values())
        return JSONResponse(
            {
                "status": "ready" if ready else "not ready",
                "checks": {name: failure or "ok" for name, failure in failures.items()},
            },
            200 if ready else 503,
        )

    async def metrics(_: Request) -> Response:
        await asyncio.gather(*(_set_gauge(name, check) for name, check in checks.items()))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
    if beside is not None:
        app.router.default = beside
    return app


async def _set_gauge(name: str, check: Check) -> None:
    """Run a check and export its result as a metric."""
    READY.labels(name).set(await _failure(check) is None)


async def _failure(check: Check) -> str | None:
    """What is wrong, None if nothing is. A check that raises an exception has failed."""
    try:
        return await check()
    except Exception as error:  # a bug in the check must not hide the results of the others
        return explain(error)
