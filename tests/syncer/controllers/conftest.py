"""A light fleet of their own for the tests of controllers: nobody else looks at its SyncTargets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fleet import Kubectl, start_fleet, stop_fleet
from tests.support.process import install_crds


@pytest.fixture(scope="package")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl on upstream, a and b; our CRDs and namespace are there."""
    fleet = start_fleet(tmp_path_factory.mktemp("controllers"), targets=("a", "b"), light=True)
    kubectl = Kubectl(fleet)
    install_crds(kubectl)
    kubectl("upstream", "create", "namespace", "syncline-system")
    yield kubectl
    stop_fleet(fleet)
