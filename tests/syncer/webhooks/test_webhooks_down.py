"""F59: what goes on while nobody answers admission reviews."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.fleet import Kubectl, wait_until
from tests.syncer.api.cases import placement, sync_target
from tests.syncer.api.server import Answer, Server
from tests.syncer.webhooks.serving import Webhooks


@pytest.fixture
def down(fleet: Fleet, kubectl: Kubectl, crds: None, namespace: str) -> Iterator[dict[str, Any]]:
    """A stored placement; the webhooks that admitted it have died since."""
    webhooks = Webhooks(fleet.upstream.kubeconfig, kubectl)
    try:
        webhooks.start()
        stored = Server(fleet.upstream.kubeconfig).create(placement(namespace=namespace), keep=True)
        webhooks.stop()
        yield stored
    finally:
        webhooks.remove_configurations()


def test_creation_fails_closed_and_everything_else_goes_on(fleet: Fleet, down: dict[str, Any]) -> None:
    """F59: creates and changes of spec are refused with the reason; labels, finalizers, status and deletes work."""
    server = Server(fleet.upstream.kubeconfig)
    namespace = down["metadata"]["namespace"]
    for manifest in (placement("other", namespace=namespace), sync_target("other")):
        with pytest.raises(Answer, match=r"failed calling webhook .*webhooks\.syncline\.io"):
            server.create(manifest)
    changed = server.get(down)
    changed["spec"]["suspend"] = True
    with pytest.raises(Answer, match="failed calling webhook"):
        server.replace(changed)

    assert server.put_status(down, {"reason": "Frozen"})["status"]["reason"] == "Frozen"
    marked = server.get(down)
    marked["metadata"]["finalizers"] = ["example.com/keep"]
    marked["metadata"]["labels"] = {"a": "b"}
    marked = server.replace(marked)
    server.delete(marked)
    leaving = server.get(marked)
    assert leaving["metadata"]["deletionTimestamp"]
    leaving["metadata"]["finalizers"] = []
    server.replace(leaving)

    def is_gone() -> bool:
        try:
            server.get(down)
        except Answer as answer:
            return answer.code == 404
        return False

    wait_until(is_gone)
