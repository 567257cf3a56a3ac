"""One installation for all tests of this package, as docs/install.md says.

`installed`  operator on upstream, mode `host`; agents on east and west, which nobody can dial.
`room`       a fresh namespace upstream, in the form of `tests.e2e.conftest`.
`alice`      an ordinary user: upstream she may look and use the hub's proxy, on the targets she may edit.

What a test breaks it puts right again.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.manifests import Manifest
from tests.support.fleet import REUSE_VARIABLE
from tests.support.incluster import HELM_VARIABLE, IMAGE_VARIABLE, NAMESPACE, REASON, InCluster, Person

TIMEOUT_SECONDS = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there are no clusters for them, they say how to get some."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))
            if REASON:
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> InCluster:
    folder, image, helm = (os.environ[name] for name in (REUSE_VARIABLE, IMAGE_VARIABLE, HELM_VARIABLE))
    made = InCluster(Path(folder), image, helm, tmp_path_factory.mktemp("installed"))
    if made.kubectl.get("upstream", "namespace", NAMESPACE) is None:  # else it is that of an earlier run
        for cluster in made.fleet.clusters:
            made.prepare(cluster)
        made.install_operator()
        for target in made.fleet.targets:
            made.install_agent(target)
    made.until_targets_are_ready()
    return made


@pytest.fixture
def room(request: pytest.FixtureRequest, installed: InCluster) -> Iterator[str]:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:30].strip("-")
    name = f"{words}-{uuid.uuid4().hex[:6]}"
    installed.kubectl("upstream", "create", "namespace", name)
    yield name
    installed.kubectl("upstream", "delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def alice(installed: InCluster) -> Person:
    wanted = [("upstream", "view"), ("upstream", "syncline-proxy-targets")]
    for cluster, role in (*wanted, *((name, "edit") for name in installed.fleet.targets)):
        installed.kubectl.apply(cluster, binding("alice", role))
    return Person(installed, "alice")


def binding(user: str, role: str) -> Manifest:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{user}-{role}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
