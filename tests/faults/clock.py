"""A wrong clock for one process, made to jump while it runs."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from .night import Night

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class WrongClock:
    """How far a process's time of day is from the right one. Its other clocks and its waiting are left alone."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of the process."""
        return {"LD_PRELOAD": str(self.folder / "clock.so"), "WRONG_CLOCK": str(self.folder / "ahead")}

    def set(self, hours: int) -> None:
        """Let it be so far ahead of the right time from now on; negative: behind."""
        with (self.folder / "ahead").open("r+b") as file:  # in place: the process has it in its memory
            file.write((hours * 3600).to_bytes(8, "little", signed=True))


def wrong_clock(night: Night) -> WrongClock:
    """A clock that is right, until it is set."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("needs a C compiler (Debian: apt install gcc libc6-dev)")
    folder = Path(tempfile.mkdtemp(prefix="touchpoint-clock-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    night.leaving.callback(shutil.rmtree, folder)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", folder / "clock.so", SOURCE], check=True)
    (folder / "ahead").write_bytes(bytes(8))
    return WrongClock(folder)
