"""Recurring tasks: measured, retried after a failure, and on request run by one process at a time."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from touchpoint.process import recurring
from touchpoint.process.recurring import Recurring
from touchpoint.testing import eventually


def sample(name, task):
    return REGISTRY.get_sample_value(f"touchpoint_task_{name}", {"task": task})


class Work:
    """Counts its runs; each run raises the next of the given errors."""

    def __init__(self, *errors, wait=None):
        self.errors, self.wait, self.runs = list(errors), wait, 0

    async def __call__(self):
        self.runs += 1
        if self.errors and (error := self.errors.pop(0)):
            raise error
        return self.wait


async def test_a_task_is_repeated_until_the_process_stops():
    work, stop = Work(), asyncio.Event()
    task = asyncio.create_task(Recurring("count sheep", 0.001, work).run(stop))
    await eventually(lambda: work.runs >= 3)
    stop.set()
    await task
    assert sample("duration_seconds_count", "count sheep") == work.runs


async def test_the_task_may_return_the_seconds_until_its_next_run():
    assert await Recurring("count goats", 60, Work(wait=0.5)).once() == 0.5
    assert await Recurring("count goats", 60, Work()).once() == 60


async def test_a_failure_is_counted_logged_once_per_cause_and_cleared_by_a_success(capsys):
    task = Recurring("count cows", 1, Work(OSError("no cows"), OSError("no cows"), ValueError(), None))
    await task.once()
    since = task.failing.since
    await task.once()
    assert (task.failing.error, task.failing.since) == ("OSError: no cows", since)
    assert (sample("failures_total", "count cows"), sample("failing", "count cows")) == (2, 1)
    await task.once()
    printed = capsys.readouterr().out
    assert printed.count("task.failed") == 2  # once for each cause
    assert "Traceback" in printed or "test_recurring" in printed
    await task.once()
    assert (task.failing, sample("failing", "count cows")) == (None, 0)


async def test_an_exclusive_task_runs_in_one_process_at_a_time(ledger):
    begun, done = asyncio.Event(), asyncio.Event()

    async def long():
        begun.set()
        await done.wait()

    other = Work()
    working = asyncio.create_task(Recurring("milk", 1, long, ledger.sessions).once())
    await begun.wait()
    waiting = Recurring("milk", 1, other, ledger.sessions)
    await waiting.once()
    assert other.runs == 0
    await Recurring("shear", 1, other, ledger.sessions).once()
    assert other.runs == 1, "another task has a lock of its own"
    done.set()
    await working
    await waiting.once()
    assert other.runs == 2


async def test_a_task_that_loses_its_lock_stops(ledger, monkeypatch):
    monkeypatch.setattr(recurring, "LOCK_SECONDS", 0.05)
    stopped = asyncio.Event()

    async def long():
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = Recurring("milk", 1, long, ledger.sessions)
    working = asyncio.create_task(task.once())
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    await eventually(lambda: ledger.query(ended))
    await working
    assert stopped.is_set()
    assert task.failing


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("x")])
async def test_a_bug_in_a_task_does_not_end_the_process(error):
    task = Recurring("plough", 1, Work(error))
    assert await task.once() == 1
    assert type(error).__name__ in task.failing.error
