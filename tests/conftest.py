"""Fixtures on real control planes, for every test of the project.

`fleet`      upstream, east and west, one for the session; `SYNCLINE_TEST_FLEET=FOLDER` uses one that runs already.
`kubectl`    `kubectl("east", "get", "pods", …)` on that fleet; see `tests.support.fleet.Kubectl`.
`namespace`  a fresh namespace upstream, its name unique; removed from all clusters at the end, without waiting.
`own_fleet`  starts fleets for one test that breaks processes: `own_fleet(targets=("east",), light=True)`.

A test that uses any of them is marked `real`; `make unit` leaves those out.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from deploy.local.fleet import Fleet
from tests import lanes
from tests.support.api import Api, path_of
from tests.support.fleet import REAL_FIXTURES, REUSE_VARIABLE, Kubectl, start_fleet, stop_fleet

# How long an example takes says how busy the machine is, and nothing about the code. Every run takes the same examples,
# so a failure can be had again; `pytest --hypothesis-profile=explore` takes others each time, and more of them.
_CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _CALM, derandomize=True)
settings.register_profile("explore", _CALM, max_examples=2000)
settings.load_profile("repeatable")


END_TO_END = Path(__file__).parent / "e2e"
FLEET = pytest.StashKey[Fleet]()  # the session's, while it runs


def pytest_configure(config: pytest.Config) -> None:
    """Let processes that tests start be ended by SIGINT, and keep what kubectl remembers out of the user's home.

    A shell without job control has SIGINT ignored by what it runs in the background, and all children inherit that.
    What kubectl remembers of each of hundreds of API servers is megabytes, and wrong once another has that port.
    """
    cache = tempfile.TemporaryDirectory(prefix="syncline-kubectl-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ["KUBECACHEDIR"] = cache.name
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs control planes, so that nobody has to remember it, and take it first, lanes before all.

    Real tests take long and mostly wait; the others fill the cores until the last of them is done.

    Raises:
        UsageError: a file uses a shared fleet and is not in its lane.
    """
    for item in items:
        fixtures = set(item.fixturenames) if isinstance(item, pytest.Function) else set()
        if callspec := getattr(item, "callspec", None):
            fixtures -= callspec.params.keys()  # a parameter of that name is no fixture
        if fixtures & REAL_FIXTURES or END_TO_END in item.path.parents:
            item.add_marker(pytest.mark.real)
        if why := lanes.misplaced(_file(item.nodeid), fixtures):
            raise pytest.UsageError(why)
    order = list(dict.fromkeys(lanes.LANE_OF.values()))
    items.sort(key=lambda item: _turn(item, order))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _turn(item: pytest.Item, order: list[str]) -> int:
    """Lanes one after the other, then other real tests, then all else."""
    if lane := lanes.LANE_OF.get(_file(item.nodeid)):
        return order.index(lane)
    return len(order) + (item.get_closest_marker("real") is None)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the session's fleet behind the last lane: what comes after needs none, and would share the cores with it."""
    started = item.config.stash.get(FLEET, None)
    if started is not None and nextitem is not None and _file(nextitem.nodeid) not in lanes.LANE_OF:
        del item.config.stash[FLEET]
        stop_fleet(started)


def pytest_collection_finish() -> None:
    """What was collected stays; to look through it again and again would take a tenth of the fast tests' time."""
    gc.collect()
    gc.freeze()


class Files(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file or a lane to a worker at a time, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return lanes.LANE_OF.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files | None:
    """For `--dist loadfile`, which `make test` says."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # by count of tests: the few long ones would come last, behind one another
    return Files(config, log)


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Upstream, east and west, ready; shared by the session, so leave its processes alone."""
    if running := os.environ.get(REUSE_VARIABLE):
        yield Fleet.load(Path(running))
        return
    started = start_fleet(tmp_path_factory.mktemp("fleet"))
    request.config.stash[FLEET] = started
    yield started
    if request.config.stash.get(FLEET, None) is not None:
        stop_fleet(started)


@pytest.fixture(scope="session")
def kubectl(fleet: Fleet) -> Kubectl:
    """Kubectl on the session's fleet."""
    return Kubectl(fleet)


@pytest.fixture(scope="session")
def apis(fleet: Fleet) -> Iterator[dict[str, Api]]:
    """A client of each cluster: what every test needs costs no process."""
    clients = {name: Api(cluster) for name, cluster in fleet.clusters.items()}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def namespace(request: pytest.FixtureRequest, apis: dict[str, Api]) -> Iterator[str]:
    """Name of a new namespace upstream."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:30].strip("-")
    name = f"{words}-{uuid.uuid4().hex[:8]}"
    apis["upstream"].create("namespace", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    # To delete a namespace takes an API server a hundred requests, more than most tests do: only where something runs.
    apis["upstream"].request("DELETE", path_of("placement", name))  # a 404 where our CRDs are not installed
    for api in apis.values():
        if api.items("pod", name) or api.items("cronjob", name):
            api.delete("namespace", "", name)


@pytest.fixture
def own_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Fleet]]:
    """`tests.support.fleet.start_fleet` without the folder; what it started ends with the test."""
    started: list[Fleet] = []

    def start(**options: object) -> Fleet:
        fleet = start_fleet(tmp_path_factory.mktemp("own-fleet"), **options)  # type: ignore[arg-type]
        started.append(fleet)
        return fleet

    yield start
    for fleet in started:
        stop_fleet(fleet)
