"""Whose CPU time it takes: unlike seconds on the clock it hardly changes when others use the machine, too."""

from collections import defaultdict

import psutil


class Cpu:
    """The CPU time of the processes this one has started, from here on."""

    def __init__(self) -> None:
        self._before = _spent()

    def each(self, count: float) -> dict[str, float]:
        """Microseconds for each of so many, by process (`gateway`, `feedback_svc`, `postgres`, `kafka`)."""
        since = {name: seconds - self._before[name] for name, seconds in _spent().items()}
        return {name: round(1e6 * seconds / count, 1) for name, seconds in since.items() if seconds > 0}


def _spent() -> defaultdict[str, float]:
    spent = defaultdict[str, float](float)
    for process in psutil.Process().children(recursive=True):
        try:
            times, name = process.cpu_times(), _name(process)
        except psutil.NoSuchProcess:
            continue
        # What PostgreSQL's processes have used that have ended counts as their parent's children's.
        spent[name] += times.user + times.system + times.children_user + times.children_system
    return spent


def _name(process: psutil.Process) -> str:
    arguments = process.cmdline()
    if "-m" in arguments:
        return arguments[arguments.index("-m") + 1]
    return "kafka" if "kafka.Kafka" in arguments else process.name()
