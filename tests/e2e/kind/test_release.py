"""Operator Pods that go, releases that are upgraded and uninstalled: what stands on the targets stays as it is."""

from __future__ import annotations

import time

from tests.e2e.kind.manifests import web
from tests.e2e.manifests import config_map
from tests.support.fleet import wait_until
from tests.support.incluster import CHARTS, INSTALL_SECONDS, NAMESPACE, OPERATOR, InCluster, Measured

OBJECTS = 40


def names(installed: InCluster, target: str, room: str) -> set[str]:
    found = installed.kubectl.items(target, "configmaps", room)
    return {item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith("c")}


def test_operators_that_are_deleted_in_mid_sync_leave_nothing_out(installed: InCluster, room: str) -> None:
    """All its Pods go while objects are on their way: the next ones bring every object once, and touch none again."""
    objects = [config_map(room, f"c{number}", value="1") for number in range(OBJECTS)]
    installed.place(room, "web", web())
    installed.until_placed(room, "web")
    web_before = installed.uids(room, "deployments,pods")
    installed.place(room, "many", *objects)
    installed.kubectl("upstream", "-n", NAMESPACE, "delete", "pods", "-l", "app.kubernetes.io/component=operator",
                      "--wait=false", "--grace-period=1")  # fmt: skip
    wanted = {item["metadata"]["name"] for item in objects}
    for target in installed.fleet.targets:
        wait_until(
            lambda target=target: names(installed, target, room) == wanted,  # type: ignore[misc]
            timeout_seconds=120,
            every_seconds=1,
        )
    installed.kubectl("upstream", "-n", NAMESPACE, "rollout", "status", OPERATOR, "--timeout=60s", timeout_seconds=70)
    installed.until_targets_are_ready()
    assert installed.uids(room, "deployments,pods") == web_before


def test_an_upgrade_keeps_every_object(installed: InCluster, room: str, measured: Measured) -> None:
    """F56 in short: `helm upgrade` makes new operator Pods; what is synced keeps its UIDs, Pods included."""
    objects = [config_map(room, f"c{number}", value="1") for number in range(OBJECTS)]
    installed.place(room, "all", web(), *objects)
    installed.until_placed(room, "all")
    before = installed.uids(room)
    pods = {pod["metadata"]["uid"] for pod in installed.pods("upstream", "operator")}
    installed.helm(
        "upstream", "upgrade", "syncline", str(CHARTS / "syncline"), "--reset-then-reuse-values", "--wait",
        "--set=logLevel=debug", f"--timeout={INSTALL_SECONDS:g}s",
    )  # fmt: skip
    wait_until(
        lambda: not pods & {pod["metadata"]["uid"] for pod in installed.pods("upstream", "operator")},
        timeout_seconds=60,
    )
    installed.until_targets_are_ready()
    installed.place(room, "all", web(), *objects, config_map(room, "c-new", value="1"))  # the new ones work
    began = time.monotonic()
    for target in installed.fleet.targets:
        wait_until(lambda target=target: "c-new" in names(installed, target, room), timeout_seconds=120)  # type: ignore[misc]
    measured("first object after an upgrade", time.monotonic() - began, "s")
    after = installed.uids(room)
    assert {key: uid for key, uid in after.items() if not key.endswith("/c-new")} == before


def test_an_uninstalled_operator_leaves_what_runs_and_finds_it_again(installed: InCluster, room: str) -> None:
    """No operator, no webhook, and everything on the targets goes on; installed again, it owns the same objects."""
    installed.place(room, "web", web(), config_map(room, "c", value="1"))
    installed.until_placed(room, "web")
    before = installed.uids(room)
    installed.helm("upstream", "uninstall", "syncline", "--wait", f"--timeout={INSTALL_SECONDS:g}s")
    assert installed.kubectl.items("upstream", "deployments", NAMESPACE) == []
    assert installed.kubectl.get("upstream", "validatingwebhookconfiguration", "syncline.io") is None
    assert installed.uids(room) == before
    assert installed.placement(room, "web")["spec"]["targets"]  # CRDs and what they hold stayed
    installed.install_operator()
    installed.until_targets_are_ready(timeout_seconds=180)
    installed.place(room, "web", web(), config_map(room, "c", value="2"))

    def changed(target: str) -> bool:
        found = installed.kubectl.get(target, "configmap", "c", room)
        return found is not None and found["data"] == {"value": "2"}

    for target in installed.fleet.targets:
        wait_until(lambda target=target: changed(target), timeout_seconds=90)  # type: ignore[misc]
    assert installed.uids(room) == before
