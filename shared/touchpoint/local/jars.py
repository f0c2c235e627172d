"""Apache Kafka's jars: exactly those of `kafka.lock`, from Maven repositories, each checked against its SHA-256.

`python -m touchpoint.local.jars` prints the lock for the versions below; `make lock` stores it.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import jgo
from jgo.maven import Artifact, MavenContext

from touchpoint.base.errors import UsageError

WANTED = ("org.apache.kafka:kafka_2.13:4.1.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3")
"""Kafka, and the logging backend that it lacks. Resolved one by one: jgo mixes up the versions of several."""

LOCK = "kafka.lock"

Progress = Callable[[int, int], None]
"""Called with the number of jars already present and the total."""


async def class_path(progress: Progress) -> list[Path]:
    """All locked jars, downloaded to Maven's local repository where missing.

    Raises UsageError when a jar cannot be downloaded or is not the one that was locked.
    """
    maven, locked = MavenContext(), dict(_locked())
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(8)
    try:
        fetching = [loop.run_in_executor(pool, fetch, maven, *entry) for entry in locked.items()]
        for there, done in enumerate(asyncio.as_completed(fetching), 1):
            await done
            progress(there, len(locked))
        return [fetched.result() for fetched in fetching]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def lock() -> str:
    """The lock for `WANTED` and all dependencies, as Maven resolves them now."""
    artifacts: dict[tuple[str, str], Artifact] = {}
    for wanted in WANTED:
        for artifact in jgo.resolve(wanted):
            artifacts.setdefault((artifact.groupId, artifact.artifactId), artifact)
    lines = (f"{a.groupId}:{a.artifactId}:{a.version} {_sha256(a.resolve())}" for a in artifacts.values())
    return "\n".join(["# Coordinates and SHA-256 of every jar. Regenerate with `make lock`.", *lines, ""])


def _locked() -> Iterator[tuple[str, str]]:
    for line in (files("touchpoint.local") / LOCK).read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, _, digest = line.partition(" ")
            yield coordinate, digest


def fetch(maven: MavenContext, coordinate: str, digest: str) -> Path:
    """A jar of this SHA-256, from Maven's local repository or downloaded to it. Raises UsageError when it cannot be."""
    artifact = _artifact(maven, coordinate)
    for _ in range(2):
        try:
            path = artifact.resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            raise UsageError(f"Cannot download {coordinate} from Maven Central: {error}; check the network") from None
        if _sha256(path) == digest:
            return path
        path.unlink()  # an interrupted download, or not the locked file: try once more
    raise UsageError(
        f"{coordinate} does not have the SHA-256 in kafka.lock: the Maven repository or a proxy changed it"
    )


def _artifact(maven: MavenContext, coordinate: str) -> Artifact:
    group, name, version = coordinate.split(":")
    return maven.project(group, name).at_version(version).artifact()


def _sha256(path: Path) -> str:
    with path.open("rb") as jar:
        return hashlib.file_digest(jar, "sha256").hexdigest()


if __name__ == "__main__":
    print(lock(), end="")  # noqa: T201 # this is its output
