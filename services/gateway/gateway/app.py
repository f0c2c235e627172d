"""The gateway's application: its routes, and what lives as long as it does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import documents, services
from gateway.auth import Keyring
from gateway.config import Settings
from gateway.door import Door
from gateway.feedback import FeedbackDoor
from gateway.idempotency import Idempotency
from gateway.ingest import Ingest
from gateway.limits import Limits
from gateway.log_ends import LogEnds
from gateway.queries import QUERIES, Proxy
from gateway.requests import Bodies
from gateway.sharing import Sharing
from gateway.status import StatusDoor
from gateway.telemetry import BODY_BYTES, IN_FLIGHT
from touchpoint.db.engine import sessions
from touchpoint.http import errors
from touchpoint.http.leaving import UntilClientLeaves
from touchpoint.kafka.producer import Producer

NAME = "gateway"


class Gateway(FastAPI):
    """Finds the routes for events by one look: FastAPI's own layers take longer than all that is done there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as any ASGI application."""
        straight = self.state.straight.get(scope["path"]) if scope.get("method") == "POST" else None
        await (straight or super().__call__)(scope, receive, send)


def create_app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """Build the API."""
    producer = Producer(settings.kafka, NAME, in_flight_bytes=settings.in_flight_bytes)
    keyring = Keyring(sessions(engine), settings.key_grace_seconds)
    limits = Limits(settings)
    sharing = Sharing(limits, sessions(engine))
    remembered = Idempotency(engine, max(settings.query_seconds, settings.delivery_seconds))
    behind = services.of(settings)
    ends = LogEnds(settings.kafka)
    bodies = Bodies(settings.body_bytes)
    IN_FLIGHT.set_function(lambda: producer.in_flight_bytes)
    BODY_BYTES.set_function(lambda: bodies.held_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await producer.start()
        works = (keyring.keep_last_use(), sharing.keep(), remembered.keep_forgetting())
        keeping = [asyncio.create_task(work) for work in works]
        yield
        for task in keeping:
            task.cancel()
        await asyncio.gather(producer.stop(), keyring.record_last_use(), sharing.share(), behind.close(), ends.close())

    app = Gateway(
        title="Touchpoint", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.checks = {"kafka": producer.check}
    errors.install(app)
    ingest = Ingest(keyring, limits, producer, settings.delivery_seconds)
    route = partial(_route, bodies)
    events = [
        route("POST", "/v1/events", ingest),
        route("POST", "/v1/feedback", FeedbackDoor(keyring, limits, remembered, ingest)),
    ]
    app.state.straight = {route.path: ServerErrorMiddleware(route.app, errors.on_bug) for route in events}
    app.router.routes += [
        *events,
        route("GET", "/v1/events/{event:path}", StatusDoor(keyring, limits, behind, ends)),
        *(route(query.method, query.route, Proxy(query, keyring, limits, remembered, behind)) for query in QUERIES),
        *documents.routes(),
    ]
    return app


def _route(bodies: Bodies, method: str, path: str, endpoint: ASGIApp) -> Route:
    bounded = UntilClientLeaves(endpoint) if method == "GET" else endpoint
    return Route(path, Door(path, bounded, bodies), methods=[method])
