"""The command line: its commands, and usage errors in one line with exit code 2."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from touchpoint import cli
from touchpoint.base.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOUCHPOINT_DATA", str(tmp_path))
    return tmp_path


def test_the_help_lists_all_commands_including_those_of_services() -> None:
    shown = CliRunner().invoke(cli.commands(), ["--help"]).output
    for command in ("up", "down", "status", "logs", "import", "sample", "keys", "consumer", "dlq", "doctor"):
        assert f" {command} " in shown


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "code", "output"), [(["down"], 0, "Nothing is running"), (["status"], 1, "Touchpoint is stopped")]
)
def test_down_and_status_say_that_nothing_runs(arguments: list[str], code: int, output: str) -> None:
    result = CliRunner().invoke(cli.commands(), arguments)
    assert (result.exit_code, output in result.output) == (code, True)


@pytest.mark.usefixtures("home")
def test_a_usage_error_is_one_line_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["touchpoint", "logs", "nothing"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "touchpoint: There is no log of 'nothing'; there is none yet: run `touchpoint up`\n"
    )


def test_an_unknown_log_is_refused_with_the_names_of_existing_logs(home: Path) -> None:
    (home / "logs").mkdir()
    for name in ("kafka", "gateway"):
        (home / "logs" / f"{name}.log").write_text("started\n")
    result = CliRunner().invoke(cli.commands(), ["logs", "nothing"])
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).endswith("there is gateway, kafka")
    assert CliRunner().invoke(cli.commands(), ["logs", "gateway"]).output == "started\n"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", "Kafka cannot be reached at 127.0.0.1:1"),
        (
            "DATABASE_URL",
            "postgresql://me:secret@127.0.0.1:1/db",
            "PostgreSQL cannot be used at postgresql://me@127.0.0.1:1/db",
        ),
    ],
)
def test_an_unreachable_server_is_named_before_anything_starts(
    variable: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(cli.commands(), ["up", "--port", "24000"])  # below the ephemeral ports
    assert isinstance(result.exception, UsageError)
    assert reason in str(result.exception)
    assert "Starting" not in result.output
