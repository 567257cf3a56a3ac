"""`spec.manifests` through the whole installation: admission, targets, status, and the CLI's answers about them."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.manifests import config_map, deployment, placement
from tests.support.fleet import wait_until
from tests.support.operator import Installation, condition


def holding(room: str, *manifests: dict[str, Any]) -> dict[str, Any]:
    """A Placement of what it holds, on east."""
    made = placement(room, "held", ["east"])
    del made["spec"]["resources"]
    made["spec"]["manifests"] = list(manifests)
    return made


def test_held_objects_are_placed_told_and_explained(installation: Installation, room: str) -> None:
    """The operator has its shipped rights only; the object's kind need not be watched upstream for it."""
    web = deployment(room, "inline", replicas=1)
    del web["metadata"]["namespace"]
    installation.kubectl.apply("upstream", holding(room, web, config_map(room, "settings", k="1")))

    def ready() -> bool:
        stored = installation.api["upstream"].get("placement", room, "held")
        assert stored is not None
        assert "status" in stored
        return bool(condition(stored, "Ready")["status"] == condition(stored, "Synced")["status"] == "True")

    wait_until(ready, timeout_seconds=30)
    assert installation.api["upstream"].get("deployment", room, "inline") is None
    found = installation.api["east"].get("deployment", room, "inline")
    assert found is not None
    assert json.loads(found["metadata"]["annotations"]["syncline.io/source"])["placement"] == f"Placement/{room}/held"
    assert "in sync" in installation.must("status", "-n", room)
    explained = installation.must("explain", "deploy/inline", "-n", room)
    assert f"Placement/{room}/held" in explained
    assert "east" in installation.must("status", "deploy/inline", "-n", room)
    installation.kubectl("upstream", "delete", "placement", "held", "-n", room)
    wait_until(lambda: installation.api["east"].get("deployment", room, "inline") is None, timeout_seconds=30)


def test_what_may_not_be_held_is_refused_at_once(installation: Installation, room: str) -> None:
    """B17, B18: with the place and the reason, by the API server itself."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "a"}, "rules": []}
    for wrong, said in (
        (config_map("elsewhere", "a"), "a Placement reaches only its own namespace"),
        (role, "denied-kinds"),
    ):
        done = installation.kubectl.attempt("upstream", "apply", "-f", "-", stdin=json.dumps(holding(room, wrong)))
        assert done.returncode != 0
        assert "spec.manifests[0]" in done.stderr
        assert said in done.stderr
