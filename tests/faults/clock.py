"""A wrong clock for one process, which can jump while the process runs."""

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
    """Shifts a process's time of day. Its other clocks and its timeouts are unchanged."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for the process."""
        return {"LD_PRELOAD": str(self.folder / "clock.so"), "WRONG_CLOCK": str(self.folder / "ahead")}

    def set(self, hours: int) -> None:
        """Set the clock ahead of the right time by this number of hours; a negative number sets it behind."""
        with (self.folder / "ahead").open("r+b") as file:  # in place: the process has mapped the file into its memory
            file.write((hours * 3600).to_bytes(8, "little", signed=True))


def wrong_clock(night: Night) -> WrongClock:
    """A clock that is right until `set` is called."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("needs a C compiler (Debian: apt install gcc libc6-dev)")
    folder = Path(tempfile.mkdtemp(prefix="touchpoint-clock-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    night.leaving.callback(shutil.rmtree, folder)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", folder / "clock.so", SOURCE], check=True)
    (folder / "ahead").write_bytes(bytes(8))
    return WrongClock(folder)
