"""The local stack as a user runs it: started in the background on embedded servers, used, damaged, stopped, reset."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from touchpoint.base.errors import UsageError
from touchpoint.kafka import admin
from touchpoint.local import monitoring, sample
from touchpoint.local.home import Home
from touchpoint.local.kafka import access
from touchpoint.local.process import Process
from touchpoint.local.services import GATEWAY, SERVICES, ports
from touchpoint.sample import world
from touchpoint.sample.schedule import Frame, Made
from touchpoint.testing import eventually, servers
from touchpoint.testing.ports import reserve_base

pytestmark = pytest.mark.servers

START_SECONDS = 180
NAMES = [service.name for service in SERVICES]
WATCHERS = [name.lower() for name in monitoring.ports(0).values()]


@dataclass
class Running:
    """A stack's folder and first port, and what `touchpoint up` printed last."""

    folder: Path
    port: int
    output: str = ""

    def up(self, *options: str) -> None:
        """Start the stack in the background; when the command returns, the stack is ready."""
        started = self.command("up", "--detach", "--port", str(self.port), *options)
        assert started.returncode == 0, started.stdout + started.stderr
        self.output = started.stdout

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `touchpoint` on this stack."""
        named = ("KAFKA_", "DATABASE_URL", "TOUCHPOINT_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(named)}
        return subprocess.run(
            [sys.executable, "-m", "touchpoint.cli", *arguments],
            env=environment | {"TOUCHPOINT_DATA": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return result

    def process(self, name: str) -> dict[str, Any]:
        return next(process for process in self.status()["processes"] if process["name"] == name)

    @property
    def key(self) -> str:
        """The API key that `touchpoint up` printed."""
        return re.findall(r"tp_\w+", self.output)[0]

    def feedback(self) -> dict[str, Any]:
        """What the gateway answers, by id."""
        stored: dict[str, Any] = {}
        query = {"limit": "200"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=self.authorization) as client:
            while True:
                page = client.get("/v1/feedback", params=query).raise_for_status().json()
                stored |= {each["id"]: each for each in page["items"]}
                if page["next_cursor"] is None:
                    return stored
                query["cursor"] = page["next_cursor"]

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def sampled(self) -> list[Made]:
        """The events of the sample that were sent up to now."""
        progress = json.loads(Home(self.folder).sample_file.read_text())
        frame = Frame(sample.CUSTOMERS, sample.GROWTH_DAYS, sample.SEED, progress["start"])
        return list(world.events(frame, progress["sent"] + 1))

    def accepted(self) -> float:
        """How many events the gateway has accepted since its start."""
        metrics = httpx.get(f"{GATEWAY.admin_url(self.port)}/metrics").text
        counts = re.findall(r"^touchpoint_gateway_events_accepted_total\S* (\S+)$", metrics, re.MULTILINE)
        return sum(map(float, counts))


def as_another_user(work: Callable[[], Any]) -> Any:
    """The result of `work`, run as the user `nobody` in a process of its own."""
    read, write = os.pipe()
    if not (child := os.fork()):
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with os.fdopen(write, "w") as answer:
            json.dump(work(), answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        result = json.load(answer)
    os.waitpid(child, 0)
    return result


def readable(folder: Path) -> list[str]:
    """The files and folders below this one that the current user can read."""
    names = ["kafka", "postgres", "prometheus", "alertmanager", "logs", "secrets.json", "running.json", "lock"]
    paths = [folder, *(folder / name for name in names), *folder.rglob("*")]
    return [str(path) for path in paths if os.access(path, os.R_OK)]


@pytest.fixture(scope="module")
def stack() -> Iterator[Running]:
    """A running stack; a test that stops it starts it again."""
    stack = Running(servers.new_folder(), reserve_base({**ports(0, brokers=1), **monitoring.ports(0)}))
    try:
        stack.up()
        yield stack
    finally:
        stopped = stack.command("down").stdout
        left = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        shutil.rmtree(stack.folder, ignore_errors=True)
        assert (stopped, [command for command in left if str(stack.folder) in command]) == ("Stopped.\n", [])


def test_everything_is_ready_when_up_returns(stack: Running) -> None:
    result = stack.status()
    assert result["state"] == "ready"
    assert {each["name"]: each.get("ready", True) for each in result["processes"]} == dict.fromkeys(
        ["kafka", "postgres", *NAMES, *WATCHERS], True
    )


@pytest.mark.skipif(not WATCHERS, reason="Prometheus is not installed (Debian: .ci/tools)")
async def test_prometheus_scrapes_all_services_and_holds_the_alert_rules(stack: Running) -> None:
    [url] = re.findall(r"Prometheus +(http\S+)", stack.output)

    async with httpx.AsyncClient(base_url=url) as client:

        async def scraped() -> bool:
            answer = await client.get("/api/v1/query", params={"query": 'up{job="touchpoint"} == 1'})
            return {each["metric"]["service"] for each in answer.json()["data"]["result"]} == set(NAMES)

        await eventually(scraped, 60)
        groups = (await client.get("/api/v1/rules")).json()["data"]["groups"]
        assert "touchpoint-symptoms" in {group["name"] for group in groups}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_read_any_file_of_the_stack(stack: Running) -> None:
    assert stack.feedback(), "there are events to read"
    assert as_another_user(lambda: readable(stack.folder)) == []


def test_no_process_shows_a_secret_in_its_arguments(stack: Running) -> None:
    secrets = Home(stack.folder).secrets()
    assert sorted(secrets) == ["api_key", "kafka", "token"]
    shown = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in shown for secret in secrets.values() if secret in command] == []


async def test_kafka_refuses_clients_without_the_owners_password(stack: Running) -> None:
    home = Home(stack.folder)
    address = home.recorded()["kafka"]
    wrong = access(address, "a guess")
    unknown = wrong.model_copy(update={"sasl_username": "touchpoint-2"})
    for settings in (access(address, None), wrong, unknown):
        with pytest.raises(UsageError, match=r"refuses KAFKA_SASL_USERNAME|cannot be reached"):
            async with admin.connected(settings):
                pass
    async with admin.connected(access(address, home.secrets()["kafka"])) as client:
        assert "touchpoints.v1" in await client.list_topics()


def test_operators_commands_find_the_stacks_kafka_and_its_password(stack: Running) -> None:
    result = stack.command("doctor")
    assert re.search(r"✓ Kafka 127\.0\.0\.1:\d+: ", result.stdout), result.stdout + result.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_in_one_line(stack: Running) -> None:
    def look() -> str:
        try:
            return str(Home(stack.folder).recorded())
        except UsageError as error:
            return str(error)

    assert (
        as_another_user(look) == f"{stack.folder} belongs to another user: run it as the user who ran `touchpoint up`"
    )


def test_data_of_a_kafka_without_passwords_is_refused_in_one_line(tmp_path: Path) -> None:
    older = Running(tmp_path, reserve_base(ports(0, brokers=1)))
    stamp = tmp_path / "kafka" / "data" / "meta.properties"
    stamp.parent.mkdir(parents=True)
    stamp.write_text("version=1\ncluster.id=AAAA\n")
    refused = older.command("up", "--port", str(older.port))
    assert refused.returncode == 2
    assert re.fullmatch(
        r"touchpoint: the data in .* whose Kafka had no password: start with --fresh.*\n", refused.stderr
    )


async def test_the_printed_first_call_stores_feedback(stack: Running) -> None:
    call = stack.output.partition("A first call:")[2].partition("\"}'")
    process = await asyncio.create_subprocess_exec("bash", "-c", "".join(call[:2]), stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    submitted = json.loads(printed)["feedback_id"]
    await eventually(lambda: stack.feedback().get(submitted, {}).get("text") == "Lovely.")


def test_a_second_stack_in_the_same_folder_is_refused(stack: Running) -> None:
    refused = stack.command("up", "--port", str(stack.port))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("touchpoint: Touchpoint is already running here")


def test_a_second_stack_in_another_folder_is_refused_and_names_the_busy_port(stack: Running, tmp_path: Path) -> None:
    refused = Running(tmp_path, stack.port).command("up", "--port", str(stack.port))
    assert refused.returncode == 2
    assert re.fullmatch(rf"touchpoint: Port {stack.port} .* by python.*--port 18080`\n", refused.stderr)
    assert stack.status()["state"] == "ready"


async def test_a_hanging_service_is_reported_by_status_doctor_and_consumer_list(stack: Running) -> None:
    os.kill(stack.process("metrics-svc")["pid"], signal.SIGSTOP)
    try:
        await eventually(lambda: "DOWN" in stack.command("consumer", "list").stdout, timeout=60)
        status, doctor = stack.command("status"), stack.command("doctor")
    finally:
        os.kill(stack.process("metrics-svc")["pid"], signal.SIGCONT)
    assert status.returncode == doctor.returncode == 1
    assert status.stdout.startswith("Touchpoint is not ready.\n")
    assert re.search(r"metrics-svc +NOT READY +\d+ .*\n    /readyz does not answer within 5 s\n", status.stdout)
    assert "✗ metrics-svc process: /readyz does not answer within 5 s\n" in doctor.stdout
    assert "✗ metrics-svc processes: no consumer process has reported for " in doctor.stdout
    assert max(map(len, (status.stdout + doctor.stdout).splitlines())) <= 80
    await eventually(lambda: stack.command("status").returncode == 0, timeout=60)


async def test_a_killed_service_is_restarted(stack: Running) -> None:
    before = stack.process("feedback-svc")
    os.kill(before["pid"], signal.SIGKILL)
    await eventually(lambda: stack.process("feedback-svc")["restarts"] == before["restarts"] + 1)
    await eventually(lambda: stack.process("feedback-svc")["ready"], timeout=60)
    assert "feedback-svc was restarted" in stack.command("logs", "supervisor").stdout


async def test_processes_of_a_killed_supervisor_are_stopped_and_data_is_kept(stack: Running) -> None:
    kept, key, sampled = stack.feedback(), stack.key, len(stack.sampled())
    running = Home(stack.folder).recorded()["processes"]
    os.kill(running["supervisor"]["pid"], signal.SIGKILL)
    await eventually(lambda: stack.status()["state"] == "abandoned")

    stack.up()
    assert not any(Process.find(**process) for process in running.values())
    assert stack.key == key
    now = stack.feedback()
    assert {number: now.get(number) for number in kept} == kept
    assert stack.accepted() <= len(stack.sampled()) - sampled, "no event was sent twice"


async def test_ctrl_c_stops_the_stack_and_fresh_starts_with_only_the_sample(stack: Running) -> None:
    key, running = stack.key, Home(stack.folder).recorded()["processes"]
    os.kill(running["supervisor"]["pid"], signal.SIGINT)
    await eventually(lambda: not any(Process.find(**process) for process in running.values()), timeout=60)
    assert stack.status() == {"state": "stopped", "port": None, "processes": []}

    stack.up("--fresh")
    assert stack.key != key

    def submitted() -> list[Made]:
        return [each for each in stack.sampled() if each.type == "feedback.submitted"]

    assert len(submitted()) > 100
    await eventually(lambda: len(stack.feedback()) == len(submitted()), timeout=60)
