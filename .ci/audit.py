"""Looks up everything requirements.lock pins in PyPI's advisories: exit 1 on a known vulnerability.

Where nobody answers, nothing is known: a warning and exit 0, because a change is not to wait for somebody's network.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"

ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us or have no fix yet, by id, each with the reason and until when."""


def main() -> int:
    """Ask, and say what came of it."""
    asked = subprocess.run(  # noqa: S603 # our own words
        [Path(sys.executable).with_name("pip-audit"), "--requirement", LOCK, "--require-hashes", "--disable-pip",
         "--format", "json", "--progress-spinner", "off"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        report = json.loads(asked.stdout)
    except ValueError:
        report = {"dependencies": []}
        print(*asked.stderr.splitlines()[-1:], file=sys.stderr)  # noqa: T201
    code, lines = verdict(report["dependencies"])
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and what to say of pip-audit's findings; a dependency it skipped is not one it found in order."""
    vulnerable = [
        f"{dependency['name']} {dependency['version']}: {advisory['id']}, "
        f"fixed in {', '.join(advisory['fix_versions']) or 'none yet'}"
        for dependency in dependencies
        for advisory in dependency.get("vulns", ())
        if not {advisory["id"], *advisory["aliases"]} & ACCEPTED.keys()
    ]
    if vulnerable:
        return 1, [*vulnerable, "Known vulnerabilities: raise the versions, or accept them in .ci/audit.py."]
    skipped = [dependency["name"] for dependency in dependencies if "skip_reason" in dependency]
    if len(skipped) == len(dependencies):
        return 0, ["WARNING: NOT AUDITED. PyPI's advisories cannot be reached from here; nothing is known."]
    if skipped:
        return 0, [f"WARNING: not audited, unknown to PyPI: {', '.join(skipped)}. The others: no known vulnerability."]
    return 0, [f"No known vulnerability in {len(dependencies)} dependencies."]


if __name__ == "__main__":
    sys.exit(main())
