"""Prometheus and Alertmanager of a stack, if they are installed, with the rules of deploy/prometheus."""

import asyncio
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import httpx
import yaml

from touchpoint.base.errors import UsageError
from touchpoint.local import private
from touchpoint.local.process import HOST, Process, Program

DEPLOY = Path(__file__).parents[3] / "deploy" / "prometheus"
PROMETHEUS_OFFSET, ALERTMANAGER_OFFSET = 1110, 1113
"""Distances from the gateway's port: 8080 gives 9190 and 9193, which differ from the default ports 9090 and 9093."""
SCRAPE_SECONDS = 5
START_SECONDS = 30


class Target(NamedTuple):
    """A process to scrape: its admin URL, and the labels `service` and `role` of its metrics."""

    url: str
    service: str
    role: str


def prometheus() -> str | None:
    """Path of Prometheus if it is installed and deploy/prometheus exists."""
    return shutil.which("prometheus") if DEPLOY.is_dir() else None


def alertmanager() -> str | None:
    """Path of Alertmanager if it is installed; Debian names it `prometheus-alertmanager`."""
    return shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")


def ports(base_port: int) -> dict[int, str]:
    """The ports of Prometheus and Alertmanager if these are installed, and the purpose of each."""
    used = {base_port + PROMETHEUS_OFFSET: "Prometheus"} if prometheus() else {}
    return used | ({base_port + ALERTMANAGER_OFFSET: "Alertmanager"} if used and alertmanager() else {})


@dataclass(frozen=True)
class Alertmanager:
    """An Alertmanager of its own, with the routes of deploy/prometheus."""

    title: ClassVar[str] = "alerts"

    folder: Path
    log: Path
    port: int

    @property
    def url(self) -> str:
        """The URL of Alertmanager's page, which shows the firing alerts."""
        return f"http://{HOST}:{self.port}"

    def prepare(self) -> Program:
        """The program that runs Alertmanager."""
        private.make_folder(self.folder)
        command: list[str | Path] = [
            alertmanager() or "alertmanager",
            f"--config.file={DEPLOY / 'alertmanager.yml'}",
            f"--storage.path={self.folder}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",
        ]
        return Program("alertmanager", command, dict(os.environ), self.log)

    async def ready(self, process: Process) -> None:
        """Return once it is ready. Raises UsageError if it ends or takes too long."""
        await _ready("Alertmanager", self.url, process, self.log)


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus of its own that scrapes these targets and evaluates the rules of deploy/prometheus."""

    title: ClassVar[str] = "Prometheus"

    folder: Path
    log: Path
    port: int
    targets: Sequence[Target]
    alertmanagers: Sequence[Alertmanager] = field(default=())
    scrape_seconds: int = SCRAPE_SECONDS

    @property
    def url(self) -> str:
        """The URL of Prometheus."""
        return f"http://{HOST}:{self.port}"

    def prepare(self) -> Program:
        """Write the configuration; returns the program that runs Prometheus."""
        private.make_folder(self.folder)
        config = self.folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        command: list[str | Path] = [
            prometheus() or "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        return Program("prometheus", command, dict(os.environ), self.log)

    def _config(self) -> Mapping[str, Any]:
        every = f"{self.scrape_seconds}s"
        managers = [f"{HOST}:{each.port}" for each in self.alertmanagers]
        return {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(DEPLOY / "rules" / "*.yml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": managers}]}]},
            "scrape_configs": [
                {
                    "job_name": "touchpoint",
                    "static_configs": [
                        {
                            "targets": [each.url.removeprefix("http://")],
                            "labels": {"service": each.service, "role": each.role},
                        }
                        for each in self.targets
                    ],
                }
            ],
        }

    async def ready(self, process: Process) -> None:
        """Return once it is ready. Raises UsageError if it ends or takes too long."""
        await _ready("Prometheus", self.url, process, self.log)


def installed(
    folder: Path, logs: Path, base_port: int, targets: Sequence[Target]
) -> Sequence[Alertmanager | Prometheus]:
    """Alertmanager and Prometheus if they are installed, in the order in which they are started."""
    if not prometheus():
        return ()
    port, alerts = base_port + PROMETHEUS_OFFSET, base_port + ALERTMANAGER_OFFSET
    managers = [Alertmanager(folder / "alertmanager", logs / "alertmanager.log", alerts)] if alertmanager() else []
    return (*managers, Prometheus(folder / "prometheus", logs / "prometheus.log", port, targets, managers))


async def _ready(name: str, url: str, process: Process, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(timeout=2) as client:
        while True:
            try:
                if (await client.get(f"{url}/-/ready")).is_success:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            if not process.alive() or time.monotonic() > deadline:
                raise UsageError(f"{name} did not start; its log says why: {log}")
            await asyncio.sleep(0.1)
