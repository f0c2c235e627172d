"""The breakages: each function injects a failure, waits for its detection, and repairs it, by hand where necessary."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import asyncpg
import httpx
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.kafka import admin
from touchpoint.local.kafka import Kafka
from touchpoint.testing import eventually
from touchpoint.testing.foreign import RawRecord, batch, foreign_producer
from touchpoint.testing.servers import Mortal
from touchpoint.testing.system import READS, Part

from .checks import recovered
from .clock import wrong_clock
from .faults import USER
from .load import SOURCE
from .night import REASON, Breakage, Night, seconds

METRICS: Part = ("metrics-svc", "all")
ESCALATION: Part = ("escalation-svc", "all")
FILL_BYTES = 1024 * 1024
ROOM_BYTES = 24 * 1024 * 1024
"""Bytes free on the small disk before it is filled."""
AUTHORIZED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""A broker with an authorizer that allows everything for which no ACL exists."""


async def service_dead(night: Night) -> None:
    night.strike()
    await night.stage.system.kill(METRICS)
    await asyncio.sleep(seconds(35, 6))
    await night.is_noticed("readiness", "doctor")
    night.stage.system.start_part(METRICS)
    night.mended("started again")


async def postgres_frozen(night: Night) -> None:
    server = night.stage.postgres.process.handle
    processes = [server, *server.children(recursive=True)]
    night.strike()
    for process in processes:
        process.suspend()
    try:
        await asyncio.sleep(seconds(90, 10))
        await night.is_noticed("readiness", "doctor")
    finally:
        for process in processes:
            process.resume()
    night.mended("woken")


async def postgres_stopped(night: Night) -> None:
    night.strike()
    await night.stage.postgres.process.stop()
    await asyncio.sleep(seconds(90, 5))
    await night.is_noticed("readiness", "doctor")
    await night.stage.postgres.start()
    night.mended("started again")


async def kafka_stopped(night: Night) -> None:
    [broker] = night.stage.brokers
    night.strike()
    await broker.process.stop()
    await asyncio.sleep(seconds(52, 10))
    await night.is_noticed("readiness", "doctor")
    await broker.start()
    night.mended("started again")


async def column_renamed(night: Night) -> None:
    async with _database(night, "feedback-svc") as connection:
        night.strike()
        await connection.execute("ALTER TABLE feedback RENAME COLUMN channel TO kanal")
        try:
            await night.is_noticed("doctor")
            await asyncio.sleep(seconds(10, 2))
        finally:
            await connection.execute("ALTER TABLE feedback RENAME COLUMN kanal TO channel")
    night.mended("renamed back")


async def no_connections_left(night: Night) -> None:
    """Other clients take all connections while a service restarts."""
    async with AsyncExitStack() as taken:
        night.strike()
        await night.stage.system.kill(METRICS)
        while True:
            try:
                connection = await asyncpg.connect(night.stage.system.servers.dsn, timeout=10)
            except asyncpg.PostgresError:
                break
            taken.push_async_callback(connection.close)
        night.stage.system.start_part(METRICS)
        await night.is_noticed("readiness")
        await asyncio.sleep(seconds(20, 3))
    night.mended("the others let go")


async def garbage_written(night: Night) -> None:
    garbage = [
        RawRecord(None, None),
        RawRecord(b"\xff\xfe", b"\x00" * 100),
        RawRecord(b"acme:c1", b"{}", [(b"\xff\xfename", b"1"), (b"ce_type", b"feedback.submitted")]),
        RawRecord(b"acme:c1", b"not json", [(b"ce_id", b"1"), (b"ce_id", b"2"), (b"ce_type", None)]),
    ]
    night.strike()
    async with foreign_producer(night.stage.system.kafka) as producer:
        for partition in range(night.stage.system.partitions):
            await producer.write(TOUCHPOINTS, partition, batch(garbage))
    await night.is_noticed("doctor")
    for service in READS:
        await night.operate(service, "dlq", "discard", "--execute", "--reason", REASON)
    night.mended("went on by itself; `dlq discard`")


async def rows_changed(night: Night) -> None:
    night.strike()
    async with _database(night, "feedback-svc") as connection:
        await connection.execute(
            "DELETE FROM inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbox LIMIT 3));"
            "DELETE FROM feedback WHERE ctid = ANY(ARRAY(SELECT ctid FROM feedback LIMIT 3));"
            "UPDATE feedback SET channel = 'phone' WHERE ctid = ANY(ARRAY(SELECT ctid FROM feedback LIMIT 3))"
        )
    async with _database(night, "metrics-svc") as connection:
        await connection.execute(
            "UPDATE rollups SET n = n + 1 WHERE ctid = ANY(ARRAY(SELECT ctid FROM rollups LIMIT 3))"
        )
    for service in ("feedback-svc", "metrics-svc"):
        output = await night.operate(service, "verify", "--consumer", service)
        night.notice("verify", next(line.strip() for line in output.splitlines() if line.startswith(f"{service}:")))
    for service in ("feedback-svc", "metrics-svc"):
        output = await night.operate(service, "replay", "rebuild", "--consumer", service, "--swap", "--reason", REASON)
        assert "swapped" in output, output
    night.mended("`replay rebuild --swap`")


async def tail_overwritten(night: Night) -> None:
    [broker] = night.stage.brokers
    night.stage.strike()
    await recovered(night.stage)  # all consumers have applied the records that will be lost
    await broker.kill()
    prefix = f"{night.stage.system.kafka.topic_prefix}{TOUCHPOINTS}-"
    folders = (broker.server.folder / "data").glob(f"{prefix}*")
    segment = max((path for folder in folders for path in folder.glob("*.log")), key=lambda path: path.stat().st_size)
    size = segment.stat().st_size
    with segment.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    night.strike()
    await broker.start()
    for service in READS:
        await night.is_halted(service)
    await night.is_noticed("doctor")
    for service in READS:
        await _accept_losses(night, service)
    night.mended("`consumer resume --accept-loss …`")


async def wrong_policies(night: Night) -> None:
    right = night.policies.read_text()
    night.policies.write_text(right.replace("event: feedback.submitted", "event: feedback.submited"))
    night.strike()
    await night.stage.system.stop_part(ESCALATION)
    night.stage.system.start_part(ESCALATION)
    await night.is_noticed("readiness")
    log = night.stage.system.logs / "escalation-svc.all.log"
    lines = await eventually(lambda: [line for line in log.read_text().splitlines() if "policies.0.event" in line], 60)
    night.notice("log", lines[-1])
    await asyncio.sleep(seconds(10, 2))
    night.policies.write_text(right)
    night.mended("the file was mended; started again")


async def kafka_disk_full(night: Night) -> None:
    [broker] = night.stage.brokers
    await _disk_full(night, broker, "Kafka")


async def postgres_disk_full(night: Night) -> None:
    await _disk_full(night, night.stage.postgres, "PostgreSQL")


async def _disk_full(night: Night, server: Mortal, name: str) -> None:
    filler = await _on_a_small_disk(night, server)
    night.strike()
    _fill(filler)
    try:
        await night.is_noticed("readiness", "doctor")
        await asyncio.sleep(seconds(20, 5))
    finally:
        await _make_room(filler)
    if ended := not server.process.alive():
        await server.start()
    night.mended("room was made" + (f"; {name}, which had ended, started again" if ended else ""))


async def postgres_clock_jumps(night: Night) -> None:
    """The clock is an hour ahead, then an hour behind: no clock of a ticket may expire early."""
    clock = wrong_clock(night)
    await _restarted_with(night.stage.postgres, clock.environment)
    await night.is_well()
    await _ticket_due_within_the_hour(night)
    night.strike()
    for hours in (1, -1):
        clock.set(hours)
        await night.is_noticed("readiness")
        await asyncio.sleep(seconds(20, 5))
        async with _database(night, "escalation-svc") as connection:
            assert await connection.fetchval("SELECT count(*) FROM clocks WHERE state = 'breached'") == 0
    clock.set(0)
    night.mended("the clock was corrected")


async def services_clock_jumps(night: Night) -> None:
    await _clock_jumps_of(night, ESCALATION, 1, -1)


async def gateways_clock_jumps(night: Night) -> None:
    await _clock_jumps_of(night, ("gateway", "api"), 1)
    assert "metrics" in night.noticed


async def _clock_jumps_of(night: Night, part: Part, *jumps: int) -> None:
    clock, system = wrong_clock(night), night.stage.system
    system.own[part[0]] = system.own.get(part[0], {}) | clock.environment
    await system.stop_part(part)
    system.start_part(part)
    await system.ready([part])
    await night.is_well()
    await _ticket_due_within_the_hour(night)
    night.strike()
    for hours in jumps:
        clock.set(hours)
        await asyncio.sleep(seconds(30, 8))
        async with _database(night, "escalation-svc") as connection:
            assert await connection.fetchval("SELECT count(*) FROM clocks WHERE state = 'breached'") == 0
    clock.set(0)
    night.mended("the clock was corrected")


async def kafkas_clock_jumps(night: Night) -> None:
    """The log's timestamps go back: no event's processing and no ticket's clock depends on them."""
    clock, [broker] = wrong_clock(night), night.stage.brokers
    await _restarted_with(broker, clock.environment)
    await night.is_well()
    night.strike()
    for hours in (1, -1):
        clock.set(hours)
        await asyncio.sleep(seconds(20, 5))
    clock.set(0)
    night.mended("the clock was corrected")


async def database_rights_revoked(night: Night) -> None:
    async with _database(night, "metrics-svc") as connection:
        night.strike()
        await connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {USER}")
        try:
            await night.is_noticed("doctor")
            await asyncio.sleep(seconds(20, 5))
        finally:
            await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {USER}")
    night.mended("granted again")


async def role_locked_out(night: Night) -> None:
    async with night.stage.connected() as connection:
        night.strike()
        await connection.execute(f"ALTER ROLE {USER} NOLOGIN")
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")
        try:
            await night.is_noticed("readiness", "doctor")
            await asyncio.sleep(seconds(20, 5))
        finally:
            await connection.execute(f"ALTER ROLE {USER} LOGIN")
    night.mended("let in again")


async def topic_rights_revoked(night: Night) -> None:
    [broker] = night.stage.brokers
    await broker.process.stop()
    broker.server = replace(cast("Kafka", broker.server), settings=tuple(AUTHORIZED.items()))
    await broker.start()
    await night.is_well()
    topic, everybody, everything, deny = 2, "User:ANONYMOUS", 2, 2
    refused = (topic, night.stage.system.kafka.topic_prefix + TOUCHPOINTS, 3, everybody, "*", everything, deny)
    async with admin.connected(night.stage.system.kafka) as client:
        night.strike()
        await client._send_to_controller(CreateAclsRequest(*refused))
        try:
            await night.is_noticed("readiness", "doctor")
            await asyncio.sleep(seconds(20, 5))
        finally:
            await client._send_to_controller(DeleteAclsRequest(*refused))
    night.mended("granted again")


async def retention_took_what_was_unread(night: Night) -> None:
    system = night.stage.system
    await night.operate("metrics-svc", "consumer", "pause", "metrics-svc", "--reason", REASON)
    before = len(night.load.accepted)
    await eventually(lambda: len(night.load.accepted) >= before + 100, 60)
    async with admin.connected(system.kafka) as client:
        topic = system.kafka.topic_prefix + TOUCHPOINTS
        everything = {TopicPartition(topic, n): RecordsToDelete(before_offset=-1) for n in range(system.partitions)}
        await client.delete_records(everything)
    night.strike()
    await night.operate("metrics-svc", "consumer", "resume", "metrics-svc", "--reason", REASON)
    await night.is_halted("metrics-svc")
    await night.is_noticed("readiness", "doctor")
    await _accept_losses(night, "metrics-svc")
    night.mended("`consumer resume --accept-loss …`")


BREAKAGES = (  # those that make Kafka lose records come last: lost records stay lost
    Breakage("a service killed and kept dead for 35 s", service_dead, quick=True),
    Breakage("PostgreSQL frozen for 90 s", postgres_frozen),
    Breakage("PostgreSQL stopped for 90 s", postgres_stopped),
    Breakage("Kafka stopped for 52 s", kafka_stopped),
    Breakage("a column renamed", column_renamed),
    Breakage("all of max_connections taken while a service is killed", no_connections_left),
    Breakage("garbage records written to the topic", garbage_written),
    Breakage("rows of inbox, feedback and rollups deleted or changed by SQL", rows_changed),
    Breakage("a wrong policy file", wrong_policies, quick=True),
    Breakage("Kafka's disk full", kafka_disk_full, needs_root=True),
    Breakage("PostgreSQL's disk full", postgres_disk_full, needs_root=True),
    Breakage("PostgreSQL's clock an hour ahead, then an hour behind", postgres_clock_jumps),
    Breakage("escalation-svc's clock an hour ahead, then an hour behind", services_clock_jumps),
    Breakage("the gateway's clock an hour ahead", gateways_clock_jumps),
    Breakage("Kafka's clock an hour ahead, then an hour behind", kafkas_clock_jumps),
    Breakage("rights on a service's tables revoked", database_rights_revoked),
    Breakage("the services' role locked out of PostgreSQL", role_locked_out),
    Breakage("rights on a topic revoked", topic_rights_revoked),
    Breakage("the tail of a segment overwritten while Kafka is down", tail_overwritten, loses=True),
    Breakage("retention takes what was not read", retention_took_what_was_unread, loses=True),
)


@asynccontextmanager
async def _database(night: Night, service: str) -> AsyncIterator[asyncpg.Connection]:
    async with night.stage.connected(night.stage.system.databases[service]) as connection:
        yield connection


async def _accept_losses(night: Night, service: str) -> None:
    """Resume a consumer and accept the lost records that the refused `resume` names."""
    resume = ("consumer", "resume", service, "--reason", REASON)
    output = await night.operate(service, *resume)
    lost = [word for place in re.findall(r"--accept-loss (\S+)", output) for word in ("--accept-loss", place)]
    assert lost, output
    await night.operate(service, *resume, *lost)


async def _on_a_small_disk(night: Night, mortal: Mortal) -> Path:
    """Move a server's data to a small disk; returns the path of a file with which to fill it."""
    await mortal.process.stop()
    folder, kept = mortal.server.folder, mortal.server.folder.with_name("kept")
    folder.rename(kept)
    folder.mkdir()
    used = sum(path.stat().st_blocks * 512 for path in kept.rglob("*") if path.is_file())
    await _run("mount", "-t", "tmpfs", "-o", f"size={used + ROOM_BYTES}", "tmpfs", str(folder))
    night.leaving.push_async_callback(_run, "umount", "--lazy", str(folder))
    await _run("cp", "--archive", "--sparse=always", f"{kept}/.", str(folder))
    await _run("chown", f"--reference={kept}", str(folder))
    shutil.rmtree(kept)
    await mortal.start()
    await night.is_well()
    return folder / "filler"


async def _make_room(filler: Path) -> None:
    """Delete the filler, and enlarge the disk for the breakages that follow."""
    await asyncio.to_thread(filler.unlink)
    await _run("mount", "-o", "remount,size=4g", str(filler.parent))


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * FILL_BYTES)
        except OSError:
            return


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


async def _restarted_with(mortal: Mortal, environment: dict[str, str]) -> None:
    await mortal.process.stop()
    program = await asyncio.to_thread(mortal.server.prepare)
    mortal.process = replace(program, environment={**program.environment, **environment}).start()
    await mortal.server.ready(mortal.process)


async def _ticket_due_within_the_hour(night: Night) -> None:
    """Open an urgent ticket without a reply, whose clock expires in a quarter of an hour."""
    about = {"ticket_id": "waiting", "customer_id": "c-waiting", "channel": "email", "priority": "urgent"}
    event = {
        "specversion": "1.0",
        "id": "waiting",
        "source": f"{SOURCE}/beside",
        "type": "ticket.opened",
        "data": about,
    }
    event["time"] = datetime.now(UTC).isoformat()
    async with httpx.AsyncClient(base_url=night.stage.system.url, timeout=30) as client:
        (await client.post("/v1/events", json=event, headers=night.stage.headers)).raise_for_status()

    async def running() -> int:
        async with _database(night, "escalation-svc") as connection:
            return int(await connection.fetchval("SELECT count(*) FROM clocks WHERE ticket_id = 'waiting'"))

    await eventually(running, 60)
