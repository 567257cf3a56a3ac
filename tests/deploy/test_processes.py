"""Processes below a supervisor: recorded, signalled by id, and gone when they should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import GroundError
from deploy.local.processes import SUPERVISOR, ProcessTable, Record, end, in_ending_order, kill, record_of
from tests.support.fleet import wait_until

SLEEP = ["/bin/sleep", "600"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    """A folder with a supervisor."""
    table = ProcessTable(tmp_path)
    table.ensure_supervisor(owner_pid=os.getpid())
    yield table
    table.end_everything(grace_seconds=0.2)


def supervisor_of(table: ProcessTable) -> Record:
    record = table.read(SUPERVISOR)
    assert record is not None
    return record


def test_a_started_process_runs_in_its_own_group_below_the_supervisor(table: ProcessTable) -> None:
    record = table.start("east.apiserver", SLEEP)
    assert record.alive
    assert os.getpgid(record.pid) == record.pid
    assert psutil.Process(record.pid).ppid() == supervisor_of(table).pid
    assert table.read("east.apiserver") == record


def test_its_output_lies_in_the_log_of_its_name(table: ProcessTable) -> None:
    table.start("operator", ["/bin/sh", "-c", "echo to stdout; echo to stderr >&2"])
    wait_until(lambda: table.log_path("operator").read_text() == "to stdout\nto stderr\n")


def test_only_the_owner_can_read_what_is_recorded(table: ProcessTable) -> None:
    table.start("operator", SLEEP, env={"TOKEN": "t"})
    assert table.run.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in table.run.iterdir())


def test_a_name_in_use_is_refused_and_free_again_after_the_end(table: ProcessTable) -> None:
    first = table.start("operator", SLEEP)
    with pytest.raises(GroundError, match="runs already"):
        table.start("operator", SLEEP)
    end([first])
    assert not first.alive
    assert table.start_again("operator").pid != first.pid


def test_a_command_that_does_not_exist_is_an_error_at_once(table: ProcessTable) -> None:
    with pytest.raises(GroundError, match="operator cannot be started"):
        table.start("operator", ["/missing/syncline"])


def test_a_name_that_was_never_started_is_an_error(table: ProcessTable) -> None:
    with pytest.raises(GroundError, match="has no process agent"):
        table.start_again("agent")


def test_a_stopped_process_ends_on_sigterm(table: ProcessTable) -> None:
    record = table.start("east.apiserver", SLEEP)
    record.send(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(record.pid).status() == psutil.STATUS_STOPPED)
    end([record], grace_seconds=10)
    assert not record.alive


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(table: ProcessTable) -> None:
    record = table.start("operator", DEAF)
    wait_until(lambda: table.log_path("operator").read_text() == "deaf\n")
    end([record], grace_seconds=0.2)
    assert not record.alive


def test_children_of_a_process_end_with_it(table: ProcessTable) -> None:
    record = table.start("operator", ["/bin/sh", "-c", "sleep 600 & echo $!; wait"])
    child = int(wait_until(lambda: table.log_path("operator").read_text()))
    end([record])
    wait_until(lambda: not psutil.pid_exists(child))


def test_ending_everything_leaves_nothing(table: ProcessTable) -> None:
    records = [table.start(name, SLEEP) for name in ("etcd", "east.apiserver", "operator")]
    records.append(supervisor_of(table))
    assert {record.name for record in table.end_everything()} == {record.name for record in records}
    assert not any(record.alive for record in records)
    assert table.records() == []
    with pytest.raises(GroundError, match=r"the supervisor of .* is gone"):
        table.start("operator", SLEEP)


def test_etcd_ends_last_and_what_others_started_first() -> None:
    names = ["etcd", "supervisor", "east.apiserver", "operator", "east.kwok"]
    groups = in_ending_order(Record(name, 1, 0.0) for name in names)
    assert [[record.name for record in group] for group in groups] == [
        ["operator"],
        ["east.apiserver", "east.kwok"],
        ["etcd"],
    ]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only the Linux kernel ends children with their parent"
)
def test_a_killed_supervisor_takes_its_children_along(table: ProcessTable) -> None:
    record = table.start("east.apiserver", SLEEP)
    kill([supervisor_of(table)])
    wait_until(lambda: not record.alive)


def test_records_of_a_killed_supervisor_are_cleaned_up_by_the_next(table: ProcessTable) -> None:
    killed = supervisor_of(table)
    kill([killed])
    table.end_everything()
    table.ensure_supervisor(owner_pid=os.getpid())
    assert supervisor_of(table).pid != killed.pid
    assert table.start("operator", SLEEP).alive


def test_a_fleet_ends_when_its_owner_is_gone(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    with subprocess.Popen(SLEEP) as owner:
        table.ensure_supervisor(owner_pid=owner.pid)
        record = table.start("etcd", SLEEP)
        owner.kill()
    wait_until(lambda: not record.alive)


def test_a_pid_that_went_to_another_process_is_never_signalled() -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        now = record_of("operator", stranger.pid)
        earlier = Record("operator", stranger.pid, now.started - 3600)
        assert now.alive
        assert not earlier.alive
        assert not earlier.send(signal.SIGKILL)
        kill([earlier])
        assert stranger.poll() is None
        stranger.kill()
