"""`syncline doctor` on a real installation: nothing is wrong with it, and a target is told from an upstream."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.manifests import CONFIG_MAPS, config_map, placement
from tests.support.fleet import wait_until
from tests.support.operator import Installation


def findings(installation: Installation, *arguments: str, cluster: str = "upstream") -> tuple[int, dict[str, Any]]:
    """Exit code, and the findings by check."""
    config = installation.fleet.clusters[cluster].kubeconfig
    done = installation.syncline("doctor", "-o", "json", *arguments, kubeconfig=config)
    assert done.stdout, done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_nothing_is_wrong_with_a_whole_installation(installation: Installation) -> None:
    """The webhooks are really asked, and nothing is made by that."""
    code, found = findings(installation)
    assert code == 0, found
    wrong = {name: finding for name, finding in found.items() if finding["state"] == "error"}
    assert not wrong
    for name in ("upstream", "CRDs", "hub", "leader", "webhooks", "targets"):
        assert found[name]["state"] == "ok", found[name]
    assert installation.api["upstream"].get("synctarget", "", "syncline-doctor") is None


def test_a_target_is_told_from_an_upstream(installation: Installation, room: str) -> None:
    """Everybody's first mistake: kubectl, or the CLI, has the context of a target."""
    installation.kubectl.apply("upstream", config_map(room, "a"), placement(room, "all", ["east"], CONFIG_MAPS))
    wait_until(lambda: installation.api["east"].get("configmap", room, "a"))
    code, found = findings(installation, cluster="east")
    assert code == 1
    assert "this cluster is a target" in found["context"]["message"]
    assert "--context" in found["context"]["fix"]


def test_an_operator_that_is_gone_is_missed(installation: Installation) -> None:
    installation.operator.end()
    try:
        code, found = findings(installation)
    finally:
        installation.operator.start()
    assert code == 1
    assert found["hub"]["state"] == "error"
    assert found["webhooks"]["state"] == "error"
    assert found["leader"]["state"] == "error"
