"""Recompute first response and resolution of customer-care conversations straight from their file.

An independent check of an import: it shares no code with the project. `python recompute_customer_care.py FILE`
prints for each metric n, mean, p50 and p90 in seconds.

First response: the time from the opening to the agent's first message. The agent's last answer counts as a message; its
time is conversationDateTime + duration. Resolution: the duration. A conversation whose duration is not hh:mm:ss (the
real file has negative ones) is left out of both, because the time of its end is unknown.
"""

import json
import math
import sys
from datetime import datetime
from pathlib import Path


def seconds_of(duration):
    parts = duration.split(":")
    if len(parts) != 3 or duration.startswith("-"):
        return None
    return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2])


def summary(values):
    ordered = sorted(values)

    def quantile(q):
        return ordered[max(0, math.ceil(q * len(ordered)) - 1)]

    return {
        "n": len(ordered),
        "mean": sum(ordered) / len(ordered),
        "p50": quantile(0.5),
        "p90": quantile(0.9),
    }


def recompute(path):
    first, resolution, left_out = [], [], 0
    for conversation in json.loads(Path(path).read_text(encoding="utf-8")):
        header = conversation["dialogHeader"]
        duration = seconds_of(header["duration"])
        if duration is None:
            left_out += 1
            continue
        opened = datetime.fromisoformat(header["conversationDateTime"])
        answers = [message["datetime"] for message in conversation["dialogContent"] if "agent" in message]
        delays = [(datetime.fromisoformat(answer) - opened).total_seconds() for answer in answers]
        first.append(min([*delays, duration]))
        resolution.append(duration)
    return {"first-response": summary(first), "resolution": summary(resolution), "left_out": left_out}


if __name__ == "__main__":
    print(json.dumps(recompute(sys.argv[1]), indent=2))
