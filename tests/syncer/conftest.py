"""Fixtures of the syncer's tests."""

from __future__ import annotations

import pytest

from syncer.api.crds import render_crds
from tests.support.fleet import Kubectl


@pytest.fixture(scope="session")
def crds(kubectl: Kubectl) -> None:
    """Our CRDs, served by the session's upstream."""
    manifests = "---\n".join(render_crds().values())
    kubectl("upstream", "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)
    kubectl("upstream", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
