"""Every error that PostgreSQL can report has a verdict: retry, halt, or dead-letter the event."""

import asyncpg
import pytest

from touchpoint.base.sqlstates import CLASSES, CODES, EVENT, HALT, RETRY, quotes_values, verdict

APPENDIX_A = """
00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F
34 38 39 3B 3D 3F 40 42 44 53 54 55 57 58 72 F0 HV P0 XX
"""
"""The SQLSTATE classes in appendix A of the PostgreSQL manual, versions 16 to 18."""

OF_DRIVER = {
    error.sqlstate
    for error in vars(asyncpg.exceptions).values()
    if isinstance(error, type) and issubclass(error, asyncpg.PostgresError) and getattr(error, "sqlstate", None)
}


def test_every_class_of_the_manual_and_of_the_driver_has_a_verdict():
    assert set(CLASSES) == set(APPENDIX_A.split())
    assert {state[:2] for state in OF_DRIVER} <= set(CLASSES)
    assert set(CODES) <= OF_DRIVER


@pytest.mark.parametrize("state", sorted(OF_DRIVER))
def test_only_errors_caused_by_values_make_a_dead_letter(state):
    of_values = state[:2] in {"09", "10", "20", "21", "22", "23", "27", "44", "54", "P0"}
    assert (verdict(state) == EVENT) == of_values
    assert quotes_values(state) or not of_values


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("08006 08P01 25006 25P03 25P04 28P01 3D000 40001 40P01 42501 53100 53300 55P03 57014 57P01 57P03", RETRY),
        ("0A000 26000 3F000 42703 42P01 42883 42P05 55000 58030 XX000 XX001 ZZ999", HALT),
        ("22001 22003 22P02 23502 23503 23505 23514 54000 P0001", EVENT),
    ],
)
def test_the_most_frequent_errors_have_the_expected_verdict(states, expected):
    assert {state: verdict(state) for state in states.split()} == dict.fromkeys(states.split(), expected)
