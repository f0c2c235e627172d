"""CPU time by process name: unlike wall time, it hardly depends on other load on the machine."""

from collections import defaultdict

import psutil


class Cpu:
    """CPU time of this process's child processes since the object was created."""

    def __init__(self) -> None:
        self._before = _spent()

    def each(self, count: float) -> dict[str, float]:
        """CPU µs per event of `count` events, by process (`gateway`, `feedback_svc`, `postgres`, `kafka`)."""
        since = {name: seconds - self._before[name] for name, seconds in _spent().items()}
        return {name: round(1e6 * seconds / count, 1) for name, seconds in since.items() if seconds > 0}


def _spent() -> defaultdict[str, float]:
    spent = defaultdict[str, float](float)
    for process in psutil.Process().children(recursive=True):
        try:
            times, name = process.cpu_times(), _name(process)
        except psutil.NoSuchProcess:
            continue
        # `children_*`: the CPU time of PostgreSQL's backends that have already exited, in their parent's accounting.
        spent[name] += times.user + times.system + times.children_user + times.children_system
    return spent


def _name(process: psutil.Process) -> str:
    arguments = process.cmdline()
    if "-m" in arguments:
        return arguments[arguments.index("-m") + 1]
    return "kafka" if "kafka.Kafka" in arguments else process.name()
