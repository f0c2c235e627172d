"""Start, supervise and stop the process of a service: `python -m <package> api|consumer|worker|migrate|all`."""

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, NoReturn

import uvloop
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from touchpoint.base import telemetry, tracing
from touchpoint.base.errors import UnreachableError, UsageError
from touchpoint.base.explain import explain
from touchpoint.base.pausing import pause
from touchpoint.base.settings import KafkaSettings, ServiceSettings
from touchpoint.contracts.reasons import reason
from touchpoint.contracts.topics import WRITERS, dead_letters
from touchpoint.db import migrate, requirements
from touchpoint.db.engine import Sessions, blames_database, create_engine, is_transient, sessions, sqlstate
from touchpoint.db.roles import ROLE_UNUSABLE, api_role
from touchpoint.http.health import Check, admin_app
from touchpoint.http.server import allow_connections, listen, serve
from touchpoint.http.spans import traced
from touchpoint.kafka import fold
from touchpoint.kafka.admin import provision
from touchpoint.kafka.consumer import Consumer
from touchpoint.kafka.dead_letter import Limit
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.relay import Relay
from touchpoint.kafka.watch import LOOK_SECONDS, TopicWatch
from touchpoint.process import vitals
from touchpoint.process.gauges import Gauges, measure_tables
from touchpoint.process.heartbeat import beat
from touchpoint.process.recurring import Recurring
from touchpoint.replay.worker import Replayer
from touchpoint.verify.subject import Subject

Part = Callable[[], Coroutine[Any, Any, None]]
"""A long-running task of a process, not yet started."""

STOP_SECONDS = 20
"""Seconds that running work may take after SIGTERM; Kubernetes sends SIGKILL after 30."""
OPERATORS_CONNECTIONS = 3
"""Database connections of an API for operators' routes, one of which may be busy with planning a replay."""
ADMIN_CONNECTIONS = 100
"""Client connections to the admin address, at most."""
FOLD_SECONDS = 1
"""Seconds between two attempts to read the service's own decisions."""
MIGRATION_SECONDS = 1
"""Seconds between two checks whether the database is migrated."""
READ_ONLY = "PostgreSQL takes no writes: it is a standby, or default_transaction_read_only is on"
POOL_SECONDS = 2
"""Seconds that a request waits for one of the API's database connections; then it is answered with 503."""


@dataclass(slots=True)
class Runtime:
    """Resources shared by the parts of a process, which end once `stop` is set."""

    settings: Any
    engine: AsyncEngine
    sessions: Sessions
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    checks: dict[str, Check] = field(default_factory=dict)
    tasks: list[Recurring] = field(default_factory=list)
    """Recurring tasks of the process, whose failures the heartbeat reports to `doctor`."""
    beside: ASGIApp | None = None
    """Application at the admin address for all paths but health and metrics."""
    folded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the database has all decisions that the service has published (`touchpoint.kafka.fold`)."""

    async def every(self, seconds: float) -> AsyncIterator[None]:
        """Yield at once, and then every `seconds` until the process stops."""
        while not self.stop.is_set():
            yield
            await pause(self.stop, seconds)


Tasks = Mapping[str, Sequence[Callable[[Runtime], Recurring]]]
"""Recurring tasks by role: `worker`, or a role that only this service has, which runs in processes of its own."""


def roles(tasks: Tasks) -> list[str]:
    """The roles of processes of a service that consumes events."""
    return ["api", "consumer", *dict.fromkeys(["worker", *tasks])]


@dataclass(frozen=True)
class Service:
    """The definition of a service; its name is also that of its consumer and the audience of its tokens."""

    name: str
    package: str
    settings: type[ServiceSettings]
    create_app: Callable[[Any, AsyncEngine], FastAPI]
    """Creates the API from the settings and an engine that connects as the API's role."""
    handlers: Handlers | None = None
    projections: Subject | None = None
    """The tables that can be rebuilt from the log: from events, and from the decisions that the service published."""
    tasks: Tasks = field(default_factory=dict)

    @property
    def roles(self) -> list[str]:
        """The roles of the service's processes, without `migrate` and `all`."""
        if self.handlers is None:
            return ["api"]
        return roles(self.tasks)


def main(service: Service) -> None:
    """Run the role named on the command line until SIGTERM or SIGINT; the exit codes are in the help's epilog."""
    roles = [*service.roles, "migrate", "all"]
    parser = argparse.ArgumentParser(
        prog=f"python -m {service.package}",
        description=f"Run one process of {service.name}. Settings are read from the environment (docs/settings.md).",
        epilog="Exit codes: 0 after SIGTERM or SIGINT, or once migrate is done; 1 after an unexpected error; 2 if a "
        "setting, the database or Kafka must be corrected first (the last line on stderr says what to do).",
    )
    parser.add_argument(
        "role",
        choices=roles,
        help="migrate: create topics and tables, then exit; run it before the other roles. all: every role but "
        "migrate in one process. Any other: that role alone, so that it can be scaled by itself",
    )
    role = parser.parse_args().role
    settings = _settings(service)
    telemetry.configure_logging(service.name, settings.log_level, settings.log_format)
    _collect_garbage_rarely()
    if settings.otel_traces_exporter == "otlp" and role != "migrate":
        from touchpoint.process.tracing import provider  # noqa: PLC0415 - a slow import that is rarely needed

        tracing.start(provider(service.name, role))
    try:
        uvloop.run(_migrate(service, settings) if role == "migrate" else _run(service, settings, role))
    except UsageError as error:
        _give_up(str(error))
    except Exception as error:
        telemetry.log().critical(telemetry.SERVICE_FAILED, exc_info=error)
        sys.exit(1)
    finally:
        tracing.stop()


def _settings(service: Service) -> ServiceSettings:
    """Read the settings, or exit with a line per invalid setting, without its value, which may be secret."""
    try:
        return service.settings()
    except SettingsError as error:
        _give_up(f"{error}: it must be JSON")
    except ValidationError as error:
        prefix = "KAFKA_" if error.title == KafkaSettings.__name__ else ""
        _give_up(
            "\n".join(f"setting {prefix}{'.'.join(map(str, e['loc'])).upper()}: {reason(e)}" for e in error.errors())
        )


def _collect_garbage_rarely() -> None:
    """Collect garbage rarely: few objects form cycles, and scanning batches of thousands took 40 % of the time."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


def _give_up(why: str) -> NoReturn:
    print(why, file=sys.stderr)  # noqa: T201 - logging may not be configured yet
    sys.exit(2)


async def _migrate(service: Service, settings: ServiceSettings) -> None:
    """Migrate the database and create the topics of this version."""
    dsn = settings.database_url.get_secret_value()
    for flaw in await requirements.require(dsn):
        telemetry.log().warning(telemetry.DATABASE_FLAW, flaw=flaw)
    await migrate.upgrade(service.package, dsn)
    await provision(settings.kafka, {service.name: service.handlers.topics} if service.handlers else {})


async def _run(service: Service, settings: ServiceSettings, role: str) -> None:
    allow_connections(settings.connections * 5 // 4 + ADMIN_CONNECTIONS)
    engines = _engines(service, settings)
    runtime = Runtime(settings, engines.own, sessions(engines.own))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unhandled)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, runtime.stop.set)
    may_begin = asyncio.create_task(_may_begin(service, runtime, engines.operators, role))
    parts = _once(may_begin, service, runtime, _parts(service, runtime, engines, role))
    parts["event loop"] = partial(vitals.watch_event_loop, runtime.stop)
    vitals.tell_build()
    for pool, engine in engines._asdict().items():
        vitals.watch_pool(pool, engine)
    admin = admin_app(runtime.checks, runtime.beside)
    parts["admin"] = partial(
        serve, admin, listen(settings.admin_host, settings.admin_port), ADMIN_CONNECTIONS, runtime.stop, "admin"
    )
    telemetry.log().info(telemetry.SERVICE_STARTED, role=role, port=settings.port, admin_port=settings.admin_port)
    try:
        failed = await _supervise(parts, runtime.stop)
    finally:
        await asyncio.gather(*(engine.dispose() for engine in engines))
    telemetry.log().info(telemetry.SERVICE_STOPPED, role=role)
    if failed:
        sys.exit(1)


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task awaited. asyncio would print its message, which may contain customer data."""
    telemetry.log().error(telemetry.SERVICE_UNHANDLED, what=context["message"], exc_info=context.get("exception"))


class _Engines(NamedTuple):
    own: AsyncEngine
    """For the consumer and the worker; connects as the tables' owner."""
    api: AsyncEngine
    """For the API; connects as the API's role."""
    operators: AsyncEngine
    """For the API's routes for operators; connects as the tables' owner."""


def _engines(service: Service, settings: ServiceSettings) -> _Engines:
    """The engines of a process, which connect on first use.

    All waits of an API are short: PostgreSQL cancels a statement that takes too long, or whose client has disconnected.
    """
    connect = partial(
        create_engine,
        settings.database_url.get_secret_value(),
        service.name,
        lock_timeout="5s",
        idle_in_transaction_session_timeout="30s",
    )
    answer = partial(
        connect,
        pool_timeout=POOL_SECONDS,
        command_timeout=settings.statement_seconds + 5,
        statement_timeout=f"{settings.statement_seconds * 1000:.0f}ms",
        client_connection_check_interval="1s",
    )
    size = settings.database_pool_size
    return _Engines(
        own=connect(pool_size=size, command_timeout=30),
        api=answer(pool_size=size, role=api_role(service.package)),
        operators=answer(pool_size=OPERATORS_CONNECTIONS),
    )


def _parts(service: Service, runtime: Runtime, engines: _Engines, role: str) -> dict[str, Part]:
    """The long-running tasks of a role."""
    parts: dict[str, Part] = {}
    settings = runtime.settings
    if role in ("api", "all"):
        app = service.create_app(settings, engines.api)
        app.state.above_tenants = sessions(engines.operators)
        app.state.folded = runtime.folded
        runtime.checks.update(app.state.checks)
        runtime.beside = app.state.beside
        listening = listen(settings.host, settings.port)
        parts["api"] = partial(serve, traced(app), listening, settings.connections, runtime.stop)
    if service.handlers is None:  # without a worker, each process measures the tables
        return parts | _recurring(runtime, measure_tables(sessions(engines.operators)))
    owner = sessions(engines.operators) if role == "api" else runtime.sessions
    parts["heartbeat"] = partial(beat, role, runtime.checks, runtime.tasks, owner, runtime.stop)
    parts["fold"] = partial(_fold, service.name, service.handlers, runtime, owner)
    if role in ("api", "all"):
        runtime.checks["api_database"] = database_check(engines.api)
    return parts if role == "api" else parts | _working(service, runtime, role)


def _working(service: Service, runtime: Runtime, role: str) -> dict[str, Part]:
    """The long-running tasks of all roles but the API."""
    assert service.handlers is not None
    parts: dict[str, Part] = {}
    settings = runtime.settings
    runtime.checks["database"] = database_check(runtime.engine, writes=True)
    watch = TopicWatch(settings.kafka, _topics(service, role))
    runtime.checks["topics"] = watch.check
    parts |= _recurring(runtime, Recurring("watch topics", LOOK_SECONDS, watch.look))
    if role in ("consumer", "all"):
        limit = Limit() if settings.on_poison == "skip" else Limit(consecutive=0)
        consumer = Consumer(service.name, service.handlers, settings.kafka, runtime.sessions, limit, watch)
        runtime.checks["consumer"] = consumer.check
        parts["consumer"] = _once_folded(runtime, partial(consumer.run, runtime.stop))
    if role in ("worker", "all"):
        relay = Relay(service.name, settings.kafka, runtime.sessions, watch)
        parts["relay"] = partial(relay.run, runtime.stop)
        replayer = Replayer(service.name, service.handlers, settings.kafka, runtime.sessions, service.projections)
        parts["replays"] = partial(replayer.run, runtime.stop)
        gauges = Gauges(service.name, settings.kafka, runtime.sessions)
        parts["gauges"] = partial(gauges.run, runtime.stop)
        runtime.tasks += gauges.tasks
    for of, makers in service.tasks.items():
        if role in (of, "all"):
            tasks = _recurring(runtime, *(make(runtime) for make in makers))
            parts |= {name: _once_folded(runtime, task) for name, task in tasks.items()}
    return parts


async def _fold(consumer: str, handlers: Handlers, runtime: Runtime, owner: Sessions) -> None:
    """Apply the decisions that the database lacks, and let the other parts begin; retries until that succeeds."""
    why: str | None = "reading the decisions that this service has published"

    async def check() -> str | None:
        return None if runtime.folded.is_set() else why

    runtime.checks["decisions"] = check
    async for _ in runtime.every(FOLD_SECONDS):
        try:
            if fold.own_topics(consumer, handlers):
                await fold.fold(consumer, handlers, runtime.settings.kafka, owner)
            runtime.folded.set()
            break
        except Exception as error:
            if not isinstance(error, UsageError | KafkaError | TimeoutError) and not blames_database(error):
                raise
            why = f"the decisions that this service has published cannot be read: {explain(error)}"
            telemetry.log().warning(telemetry.FOLD_FAILED, consumer=consumer, error=explain(error))
    await runtime.stop.wait()


def _once_folded(runtime: Runtime, part: Part) -> Part:
    """A part that begins once the database has all decisions."""

    async def run() -> None:
        waiting = {asyncio.create_task(event.wait()) for event in (runtime.folded, runtime.stop)}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if runtime.folded.is_set():
            await part()

    return run


def _recurring(runtime: Runtime, *tasks: Recurring) -> dict[str, Part]:
    """Recurring tasks as parts of the process; their failures appear in its heartbeat."""
    runtime.tasks += tasks
    return {task.name: partial(task.run, runtime.stop) for task in tasks}


def _topics(service: Service, role: str) -> set[str]:
    """The topics that a role uses: a consumer those it reads, a worker those it writes, other roles both."""
    read = set(service.handlers.topics) if service.handlers else set()
    written = {topic for topic, writer in WRITERS.items() if writer == service.name}
    written |= {dead_letters(topic, service.name) for topic in read}
    return {"consumer": read, "worker": written}.get(role, read | written)


async def _may_begin(service: Service, runtime: Runtime, engine: AsyncEngine, role: str) -> bool:
    """Wait until PostgreSQL is reachable and migrated: True then, False if the process stops first.

    Raises UsageError if the server does not meet the requirements.
    """
    settings = runtime.settings
    dsn = settings.database_url.get_secret_value()
    pools = (2 if role == "all" else 1) * settings.database_pool_size + OPERATORS_CONNECTIONS
    acts_as = api_role(service.package) if role in ("api", "all") else None
    async for _ in runtime.every(MIGRATION_SECONDS):
        try:
            flaws = await requirements.require(dsn, connections=pools, role=acts_as)
        except UnreachableError:
            continue  # the readiness check of the database says why
        for flaw in flaws:
            telemetry.log().warning(telemetry.DATABASE_FLAW, flaw=flaw)
        return await migrate.done(service.package, engine, runtime.every(MIGRATION_SECONDS))
    return False


def _once(may_begin: asyncio.Task[bool], service: Service, runtime: Runtime, parts: dict[str, Part]) -> dict[str, Part]:
    """The parts, each of which first waits for the migration; meanwhile the process is alive, but not ready.

    So a new version can be rolled out while its migration runs: a consumer could not store events before it.
    """

    async def check() -> str | None:
        if may_begin.done():
            return None
        return f"waiting for PostgreSQL, or for `python -m {service.package} migrate` of this version"

    async def run(part: Part) -> None:
        if await may_begin:
            await part()

    runtime.checks["migration"] = check
    return {name: partial(run, part) for name, part in parts.items()}


async def _supervise(parts: dict[str, Part], stop: asyncio.Event) -> bool:
    """Run all parts until `stop` is set or one of them ends; then give the others STOP_SECONDS to finish.

    Returns whether a part ended by itself, with or without an error: the process then exits with 1, and its supervisor
    (Kubernetes, systemd) restarts it.
    """
    tasks = {asyncio.create_task(part(), name=name) for name, part in parts.items()}
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    ended = [] if stop.is_set() else [task.get_name() for task in tasks if task.done() and not task.exception()]
    stop.set()
    telemetry.log().info(telemetry.SERVICE_STOPPING)
    done, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, stopping, return_exceptions=True)
    errors = {task.get_name(): task.exception() for task in done if task.exception() is not None}
    for name, error in errors.items():
        if isinstance(error, UsageError):
            raise error
        telemetry.log().error(telemetry.SERVICE_TASK_FAILED, part=name, exc_info=error)
    for name in ended:
        telemetry.log().error(
            telemetry.SERVICE_TASK_FAILED, part=name, error="the part ended although the process was not stopped"
        )
    return bool(errors or ended)


def database_check(engine: AsyncEngine, *, writes: bool = False) -> Check:
    """A readiness check: PostgreSQL answers within three seconds, and this process may use its role.

    `writes`: the server must also accept writes. An API is ready without, as it can still answer queries.
    """

    async def check() -> str | None:
        try:
            async with asyncio.timeout(POOL_SECONDS + 1), engine.connect() as connection:
                read_only = await connection.scalar(text("SELECT current_setting('transaction_read_only')"))
        except NoConnectionError:
            return None  # all connections are in use, so the database works
        except Exception as error:
            if sqlstate(error) in ROLE_UNUSABLE:
                return f"PostgreSQL: {getattr(error, 'orig', error)}; run this service's migrate"
            if not is_transient(error):
                raise
            return f"PostgreSQL cannot be used: {explain(error)}"
        return READ_ONLY if writes and read_only == "on" else None

    return check
