"""Installations to test on: real fleets with a real operator process.

`installation`  upstream, east and west with everything that runs Pods; its operator has default settings and no right
                upstream but those of deploy/rbac, and lives for all tests of this package, so leave its processes alone
                and put back what you change.
`light`         upstream, a and b as API servers only, every write on the targets audited; each test gets a running
                operator and Ready targets, and may stop and kill what it likes.
`room`          a fresh namespace on `installation`; `light_room` on `light`.
`measured`      notes a number, which is printed at the end of the run.
"""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.fleet import Fleet
from tests.e2e.audit import AuditLog, audit_arguments
from tests.e2e.manifests import namespace as manifest_of_namespace
from tests.support.fleet import start_fleet, stop_fleet, wait_until
from tests.support.operator import Installation

INSTALLATION_VARIABLE = "SYNCLINE_TEST_INSTALLATION"
REGIONS = {"east": "eu", "west": "us"}
_MEASURED: list[str] = []
# A target's silence is noticed within 4 s instead of 25.
QUICK_PROBES = ("--probe-seconds", "1", "--probe-timeout-seconds", "1")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Numbers of this run, for people; no test depends on them."""
    if _MEASURED:
        terminalreporter.section("measured end to end")
        for line in _MEASURED:
            terminalreporter.write_line(line)


@pytest.fixture
def measured() -> Callable[[str, float, str], None]:
    """`measured("applied on both targets", 0.2, "s")`."""
    return lambda what, value, unit: _MEASURED.append(f"{what}: {value:.3g} {unit}")


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A whole installation; `SYNCLINE_TEST_INSTALLATION=FOLDER` uses a demo that runs, and starts its operator anew."""
    running = os.environ.get(INSTALLATION_VARIABLE)
    fleet = Fleet.load(Path(running)) if running else start_fleet(tmp_path_factory.mktemp("installation"))
    installed = Installation(fleet)
    installed.prepare()
    installed.operator.end()
    installed.operator.start()
    for name, region in REGIONS.items():
        installed.add_target(name, "--label", f"region={region}", "--allow", "*.shop.example")
    yield installed
    installed.close()
    if not running:
        stop_fleet(fleet)
    assert_no_exception(installed)


def assert_no_exception(installed: Installation) -> None:
    """No process of this installation met an error that it had not been taught."""
    strange = [line for line in installed.operator.log().splitlines() if '"exception"' in line or "Traceback" in line]
    assert not strange


def _room(installation: Installation, name: str) -> Iterator[str]:
    words = re.sub(r"[^a-z0-9]+", "-", name.removeprefix("test_").lower())[:30].strip("-")
    namespace = f"{words}-{uuid.uuid4().hex[:6]}"
    installation.api["upstream"].create("namespace", "", manifest_of_namespace(namespace))
    yield namespace
    for api in installation.api.values():
        api.delete("namespace", "", namespace)


@pytest.fixture
def room(request: pytest.FixtureRequest, installation: Installation) -> Iterator[str]:
    """Name of a new namespace upstream."""
    yield from _room(installation, request.node.name)


@pytest.fixture
def light_room(request: pytest.FixtureRequest, light: Installation) -> Iterator[str]:
    """Name of a new namespace upstream of the light fleet."""
    yield from _room(light, request.node.name)


@pytest.fixture(scope="package")
def light_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, dict[str, AuditLog]]]:
    """The light fleet, its CRDs and audit logs; no operator yet."""
    logs = {name: AuditLog(tmp_path_factory.mktemp(f"audit-{name}")) for name in ("a", "b")}
    arguments = {f"{name}.apiserver": audit_arguments(log) for name, log in logs.items()}
    fleet = start_fleet(tmp_path_factory.mktemp("light"), targets=tuple(logs), light=True, arguments=arguments)
    installed = Installation(fleet, *QUICK_PROBES, "--no-leader-elect")
    installed.prepare()
    yield installed, logs
    installed.close()
    stop_fleet(fleet)
    assert_no_exception(installed)


@pytest.fixture
def audit(light_fleet: tuple[Installation, dict[str, AuditLog]]) -> dict[str, AuditLog]:
    """Audit logs by target; they begin with this test."""
    for log in light_fleet[1].values():
        log.skip()
    return light_fleet[1]


@pytest.fixture
def light(light_fleet: tuple[Installation, dict[str, AuditLog]]) -> Iterator[Installation]:
    """The light installation with a running operator and Ready targets."""
    installed = light_fleet[0]
    if not installed.operator.alive:
        installed.operator.start()
    for name in installed.fleet.targets:
        if installed.api["upstream"].get("synctarget", "", name) is None:
            installed.add_light_target(name)
        wait_until(lambda name=name: installed.target_ready(name), timeout_seconds=30)  # type: ignore[misc]
        if installed.target_condition(name, "Frozen").get("status") == "True":
            installed.must("ack", name)  # what the test before left in mid-deletion
    yield installed
    for cluster in installed.fleet.targets.values():
        cluster.cont()


@pytest.fixture
def paused_target(light: Installation) -> Iterator[Callable[[str], None]]:
    """Stop a target's API server; it goes on at the end of the test in any case."""
    stopped: list[str] = []

    def stop(name: str) -> None:
        light.fleet.targets[name].stop()
        stopped.append(name)

    yield stop
    for name in stopped:
        light.fleet.targets[name].processes["apiserver"].send(signal.SIGCONT)
