"""Results as JSON: one file for all scenarios; a run replaces the results of the scenarios it measures."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.scenario import Result

FOLDER = Path(__file__).parent / "results"
LATEST = FOLDER / "latest.json"


def keep(path: Path, result: Result) -> dict[str, Any]:
    """Add or replace a scenario's result in the file; returns the file's whole content."""
    document = json.loads(path.read_text()) if path.exists() else {}
    document[result.scenario.name] = _as_json(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return document


def _as_json(result: Result) -> dict[str, Any]:
    scenario, (floor, ours) = result.scenario, result.median
    return {
        "unit": scenario.unit,
        "ratio": scenario.ratio(floor, ours),
        "least": scenario.least,
        "aim": scenario.aim,
        "floor": floor.value,
        "ours": ours.value,
        "runs": [
            {
                "ratio": scenario.ratio(floor, ours),
                "floor": {"value": floor.value, **floor.details},
                "ours": {"value": ours.value, **ours.details},
            }
            for floor, ours in result.pairs
        ],
        "measured": machine(),
    }


def machine() -> dict[str, Any]:
    """Time, version and machine of a measurement."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False).stdout.strip()
