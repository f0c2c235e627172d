"""Generate the dashboards' JSON: `python -m deploy.grafana`. `--check` only lists stale files (for CI)."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import experience, oncall, overview, service

FOLDER = Path(__file__).parent / "dashboards"


def documents() -> dict[Path, str]:
    """Path and content of every dashboard file; the output is deterministic."""
    return {
        FOLDER / f"{part.__name__.rpartition('.')[2]}.json": _text(part.build().build())
        for part in (overview, service, oncall, experience)
    }


def _text(board: Dashboard) -> str:
    for number, panel in enumerate(board.panels or (), 1):
        panel.id_val = number
    return JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False).encode(board) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the files; returns the exit code: 1 if `--check` finds a stale file, else 0."""
    stale = {path: text for path, text in documents().items() if not path.exists() or path.read_text() != text}
    if arguments == ["--check"]:
        sys.stderr.writelines(f"{path.name} is stale: run make docs\n" for path in stale)
        return bool(stale)
    for path, text in stale.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
