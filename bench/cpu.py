"""Whose CPU time it takes: unlike seconds on the clock it hardly changes when others use the machine, too."""

from collections import Counter

import psutil


class Cpu:
    """The CPU time of the processes this one has started, from here on."""

    def __init__(self) -> None:
        self._before = _spent()

    def each(self, count: float) -> dict[str, float]:
        """Microseconds for each of so many, by process (`gateway`, `feedback_svc`, `postgres`, `kafka`)."""
        spent = _spent()
        spent.subtract(self._before)
        return {name: round(1e6 * seconds / count, 1) for name, seconds in spent.items() if seconds > 0}


def _spent() -> Counter[str]:
    spent = Counter[str]()
    for process in psutil.Process().children(recursive=True):
        try:
            times, name = process.cpu_times(), _name(process)
        except psutil.NoSuchProcess:
            continue
        # What PostgreSQL's processes have used that have ended counts as their parent's children's.
        spent[name] += times.user + times.system + times.children_user + times.children_system
    return spent


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    if "-m" in words:
        return words[words.index("-m") + 1]
    return "kafka" if "kafka.Kafka" in words else process.name()
