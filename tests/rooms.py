"""A contract type of import-linter for the imports between a service's rooms: `type = "rooms"` in pyproject.toml."""

from collections.abc import Iterator
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

SHARED = ("config",)
"""Modules of the service itself that a room may import; its other modules combine the rooms."""


class RoomsContract(Contract):
    """A room may import the rooms below it, and of those only the module `service`.

    `package`: the service's package. `rooms`: all its folders but `migrations`, the highest first.
    """

    type_name = "rooms"

    package = fields.StringField()
    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check every import of every room."""
        package, rooms = str(self.package), cast("list[str]", self.rooms)
        broken = [f"{room} is no room of {package}: name it in the list" for room in _unlisted(graph, package, rooms)]
        for place, room in enumerate(rooms):
            for importer, imported in _imports_of(graph, package, room):
                if (wrong := _wrong(imported, room, rooms[place + 1 :])) is not None:
                    broken.append(f"{importer} imports {package}.{imported}: {wrong}")
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the violations, one per line."""
        for line in cast("list[str]", check.metadata["broken"]):
            output.print_error(line)


def _unlisted(graph: ImportGraph, package: str, rooms: list[str]) -> list[str]:
    folders = {child for child in graph.find_children(package) if graph.find_children(child)}
    return sorted(
        folder.rpartition(".")[2] for folder in folders - {f"{package}.{room}" for room in [*rooms, "migrations"]}
    )


def _imports_of(graph: ImportGraph, package: str, room: str) -> Iterator[tuple[str, str]]:
    """A room's imports from its service: the importing module, and the imported module without the package's name."""
    start = f"{package}.{room}"
    for module in sorted({start, *graph.find_descendants(start)}):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            if imported.startswith(f"{package}."):
                yield module, imported.removeprefix(f"{package}.")


def _wrong(imported: str, room: str, below: list[str]) -> str | None:
    other, _, module = imported.partition(".")
    if other == room or imported in SHARED:
        return None
    if not module:
        return "a room imports of its service only " + ", ".join(SHARED)
    if other not in below:
        return f"{other} is not below {room}"
    return None if module == "service" else "of another room only service is imported"


__all__ = ["RoomsContract"]
