"""The gateway's application: its routes, recurring tasks, and connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway import documents
from gateway.config import Settings
from gateway.door.service import Bodies, Compact, Door, Places
from gateway.door.telemetry import BODY_BYTES
from gateway.idempotency.service import FORGET_SECONDS, Idempotency
from gateway.ingest.api import Ingest
from gateway.ingest.feedback import FeedbackEndpoint
from gateway.ingest.service import Intake
from gateway.keys.keyring import TOUCH_SECONDS, Keyring
from gateway.limits.service import Limits
from gateway.limits.tasks import SHARE_SECONDS, Sharing
from gateway.operations.api import OperationEndpoint
from gateway.operations.routes import LONGEST_SECONDS, OPERATIONS, Operation
from gateway.queries import service as services
from gateway.queries.api import Proxy, StreamProxy
from gateway.queries.routes import ROUTES, ServiceRoute
from gateway.queries.service import Services
from gateway.statuses.api import StatusEndpoint, StatusesEndpoint
from gateway.statuses.log_ends import LogEnds
from gateway.statuses.service import Statuses
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.db import clock
from touchpoint.db.engine import sessions
from touchpoint.http import errors
from touchpoint.http.leaving import UntilClientLeaves
from touchpoint.http.straight import Straight
from touchpoint.kafka.producer import Producer
from touchpoint.kafka.watch import LOOK_SECONDS, TopicWatch
from touchpoint.process.recurring import Recurring

NAME = "gateway"
STRAIGHT = (
    ("POST", "/v1/events"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/feedback"),
    ("GET", "/v1/escalations"),
)
"""Hot routes, which are dispatched before FastAPI's own layers."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EXPOSED = (
    "Allow",
    "Content-Disposition",
    "ETag",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
)
"""Headers of an answer that a page of another origin may read (CORS)."""
COMPARE_SECONDS = 30
"""Seconds between two comparisons with PostgreSQL's clock: with a wrong clock events are refused or dated wrongly."""


def create_app(settings: Settings, engine: AsyncEngine, service_routes: Sequence[ServiceRoute] = ROUTES) -> FastAPI:
    """Build the API."""
    watch = TopicWatch(settings.kafka, [TOUCHPOINTS])
    producer = Producer(settings.kafka, NAME, in_flight_bytes=settings.in_flight_bytes, watch=watch)
    keyring = Keyring(sessions(engine), settings.key_grace_seconds, settings.connections // 2)
    limits = Limits(settings)
    slowest = max((route.seconds or 0 for route in service_routes), default=0)
    remembered = Idempotency(engine, max(slowest, settings.query_seconds, settings.delivery_seconds))
    behind, behind_operators = services.of(settings), services.of(settings)
    ends = LogEnds(settings.kafka)
    bodies = Bodies(settings.body_bytes)
    BODY_BYTES.set_function(lambda: bodies.held_bytes)

    tasks = (
        Recurring("watch topics", LOOK_SECONDS, watch.look),
        Recurring("compare clocks", COMPARE_SECONDS, partial(clock.compare, sessions(engine))),
        Recurring("forget answers", FORGET_SECONDS, remembered.forget, alone=sessions(engine)),
    )
    at_the_end = (
        Recurring("record last use of keys", TOUCH_SECONDS, keyring.record_last_use),
        Recurring("share limits", SHARE_SECONDS, Sharing(limits, sessions(engine)).share),
    )
    running = partial(_running, producer, watch, tasks, at_the_end, (behind, behind_operators, ends))
    app = Straight(title="Touchpoint", docs_url=None, redoc_url=None, lifespan=lambda _: running())
    app.state.checks = {"kafka": producer.check, "topics": watch.check}
    errors.install(app)
    intake = Intake(keyring, limits, producer, settings.delivery_seconds)
    ingest = Ingest(intake)
    statuses = Statuses(behind, ends)
    route = partial(_route, bodies, Places(settings.connections))
    routes = [
        route("POST", "/v1/events", ingest),
        route("POST", "/v1/batches", ingest),
        route("POST", "/v1/feedback", FeedbackEndpoint(intake, remembered)),
        route("POST", "/v1/events/statuses", StatusesEndpoint(keyring, limits, statuses)),
        route("GET", "/v1/events/{source:path}/{id:path}", StatusEndpoint(keyring, limits, statuses)),
        *(
            route(each.method, each.pattern, StreamProxy(each, keyring, limits, behind), streamed=True)
            if each.streamed
            else route(each.method, each.pattern, Proxy(each, keyring, limits, remembered, behind), etag=each.single)
            for each in service_routes
        ),
    ]
    app.router.routes += [*routes, *documents.routes()]
    once = Idempotency(engine, LONGEST_SECONDS)
    door = partial(OperationEndpoint, keyring=keyring, limits=limits, remembered=once, services=behind_operators)
    app.state.beside = _operations(route, door)
    _dispatch_hot(app, routes)
    _allow_origins(app, settings.cors_origins)
    return app


def _dispatch_hot(app: Straight, routes: Sequence[Route]) -> None:
    """Have the hot routes answered before FastAPI looks at the others."""
    for route in routes:
        for method in route.methods or ():
            if (method, route.path) in STRAIGHT:
                app.answer(method, route.path, route.app)


def _allow_origins(app: Straight, origins: Sequence[str]) -> None:
    """Let pages of these origins call the API. No credentials: keys are sent as headers, cookies are not used."""
    if origins:
        app.surround(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )


@contextlib.asynccontextmanager
async def _running(
    producer: Producer,
    watch: TopicWatch,
    tasks: Sequence[Recurring],
    at_the_end: Sequence[Recurring],
    others: Sequence[Services | LogEnds],
) -> AsyncIterator[None]:
    """The application's lifespan: starts and stops what it needs. The tasks `at_the_end` run once more at the end."""
    await asyncio.gather(producer.start(), watch.look())
    repeating = [asyncio.create_task(task.run(asyncio.Event())) for task in (*tasks, *at_the_end)]
    yield
    for task in repeating:
        task.cancel()
    closing = [other.close() for other in others]
    await asyncio.gather(producer.stop(), *(task.once() for task in at_the_end), *closing)


def _route(
    bodies: Bodies,
    places: Places,
    method: str,
    path: str,
    endpoint: ASGIApp,
    *,
    etag: bool = False,
    streamed: bool = False,
) -> Route:
    if method == "GET" and not streamed:
        endpoint = UntilClientLeaves(Compact(endpoint, etag=etag))
    return Route(path, Door(path, endpoint, bodies, places), methods=[method])


def _operations(route: Callable[[str, str, ASGIApp], Route], door: Callable[[Operation], ASGIApp]) -> Straight:
    """The application at the admin address: the operations, and their OpenAPI document."""
    app = Straight(title="Touchpoint operations", docs_url=None, redoc_url=None)
    errors.install(app)
    app.router.routes += [
        *(route(operation.method, operation.path, door(operation)) for operation in OPERATIONS),
        documents.operations(),
    ]
    return app
