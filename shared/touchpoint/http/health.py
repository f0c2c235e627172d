"""The admin side of a process: /healthz (alive), /readyz (may get work) and /metrics, on an address of their own."""

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
"""None when all is well, else one line: what is wrong."""


def admin_app(checks: dict[str, Check], beside: ASGIApp | None = None) -> Starlette:
    """The application behind the admin port. Not ready (503) while any check has something to say.

    `beside` answers all other paths.
    """

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> JSONResponse:
        # A part that begins meanwhile may add a check.
        found: dict[str, Any] = {name: await check() for name, check in list(checks.items())}
        wrong = {name: said for name, said in found.items() if said is not None}
        return JSONResponse(
            {"status": "not ready" if wrong else "ready", "checks": {name: found[name] or "ok" for name in found}},
            503 if wrong else 200,
        )

    async def metrics(_: Request) -> Response:
        await asyncio.gather(*(_tell(name, check) for name, check in checks.items()))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
    if beside is not None:
        app.router.default = beside
    return app


async def _tell(name: str, check: Check) -> None:
    """Have a check's answer among the metrics."""
    try:
        said = await check()
    except Exception as error:  # a bug of the check is to be seen at /readyz; the metrics are needed all the more
        said = explain(error)
    READY.labels(name).set(said is None)
