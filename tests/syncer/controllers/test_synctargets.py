"""SyncTargets on real control planes: connect, probe, report, let go."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from syncer.api.policy import target_role
from syncer.api.synctarget import AcceptedResources
from syncer.controllers import connection
from syncer.kube.client import ClusterClient
from tests.support.fleet import Kubectl, eventually
from tests.support.process import install_crds
from tests.syncer.controllers.harness import QUICK, bench, service_account, token_kubeconfig

pytestmark = pytest.mark.real
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


async def test_a_target_becomes_ready_with_version_cluster_and_capacity(ground: Kubectl) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "status": {"capacity": {"cpu": "4", "memory": "8Gi"}, "allocatable": {"cpu": "3500m", "memory": "7Gi"}},
    }
    ground.apply("a", node)
    ground(
        "a", "patch", "node", "n1", "--subresource=status", "--type=merge", "-p", json.dumps({"status": node["status"]})
    )
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True", timeout_seconds=5)
        for kind in ("Connected", "HeartbeatHealthy", "Authorized", "ResourcesCompatible"):
            await here.until(name, kind, "True")
        await here.until(name, "Frozen", "False")
        found = here.get(name) or {}
        status = found["status"]
        assert status["kubernetesVersion"].startswith("v1.")
        assert status["clusterUID"] == (ground.get("a", "namespace", "kube-system") or {})["metadata"]["uid"]
        assert status["capacity"]["memory"] == "8Gi"
        assert status["observedGeneration"] == 1
        assert found["metadata"]["finalizers"] == ["syncline.io/target"]
        assert {r["resource"] for r in status["syncedResources"]} >= {"deployments", "configmaps", "secrets"}
        assert name in here.engine.clients


async def test_a_quiet_target_causes_no_status_writes(ground: Kubectl) -> None:
    """A heartbeat alone is written once a minute; probes in between cost nothing upstream (P5)."""
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Authorized", "True")
        await asyncio.sleep(1)  # the last of the first writes
        before = here.get(name)
        await asyncio.sleep(3)  # many probes long: nothing may happen
        assert here.get(name) == before


@contextmanager
def stopped(ground: Kubectl, cluster: str) -> Iterator[None]:
    """STOP a cluster's API server, CONT at the end."""
    ground.fleet.clusters[cluster].stop("apiserver")
    try:
        yield
    finally:
        ground.fleet.clusters[cluster].cont("apiserver")


async def test_a_stopped_api_server_turns_the_target_after_a_few_probes_and_back(ground: Kubectl) -> None:
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        with stopped(ground, "a"):
            await here.until(name, "Ready", "False", "Unreachable", timeout_seconds=15)
            assert here.condition(name, "Connected")[:2] == ("False", "Unreachable")
            assert ("reachable", False) in here.engine.told
            assert name in here.engine.clients  # unknown, not gone: the engine keeps what it knows
        await here.until(name, "Ready", "True")
        assert here.engine.told[-1] == ("reachable", True)


async def test_a_target_that_stops_while_it_is_looked_at_is_noticed(
    ground: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for beside the probes may take as long as it likes."""

    async def never(client: ClusterClient) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(connection, "ask_capacity", never)
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        with stopped(ground, "a"):
            await here.until(name, "Ready", "False", "Unreachable", timeout_seconds=15)
        await here.until(name, "Ready", "True")


async def test_one_slow_answer_turns_nothing(ground: Kubectl) -> None:
    async with bench(ground, replace(QUICK, failures=3)) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        with stopped(ground, "a"):
            await asyncio.sleep(0.9)  # less than the failures that turn it
        await asyncio.sleep(2)  # more probes: nothing may turn
        assert ("reachable", False) not in here.engine.told
        assert here.condition(name, "Ready")[0] == "True"


async def test_a_revoked_token_shows_and_a_new_secret_is_used_at_once(ground: Kubectl) -> None:
    """Token revoked in mid-work; S50: neither token appears in the status."""
    account, kubeconfig = service_account(ground, "a", EVERYTHING)
    async with bench(ground) as here:
        name = here.target(kubeconfig)
        await here.until(name, "Ready", "True")
        ground("a", "delete", "serviceaccount", account, "-n", "kube-system")
        await here.until(name, "Connected", "False", "Unauthorized", timeout_seconds=30)
        assert here.condition(name, "Authorized")[:2] == ("False", "Unauthorized")
        assert here.condition(name, "Ready")[:2] == ("False", "Unauthorized")
        other, renewed = service_account(ground, "a", EVERYTHING)
        here.secret(name, renewed)
        changed = time.monotonic()
        await here.until(name, "Ready", "True")
        assert time.monotonic() - changed < 5
        assert here.engine.attachments == 2
        shown = json.dumps(here.get(name))
        for config in (kubeconfig, renewed, token_kubeconfig(ground, "a", other)):
            assert yaml.safe_load(config)["users"][0]["user"]["token"] not in shown


async def test_the_role_that_target_add_gives_is_enough(ground: Kubectl) -> None:
    role = target_role(AcceptedResources())
    _, kubeconfig = service_account(ground, "a", *role["rules"])
    async with bench(ground) as here:
        name = here.target(kubeconfig)
        await here.until(name, "Ready", "True")
        await here.until(name, "Authorized", "True")


async def test_missing_rights_are_named_and_the_target_stays_ready(ground: Kubectl) -> None:
    rules = [r for r in target_role(AcceptedResources())["rules"] if r["apiGroups"] != ["batch"]]
    _, kubeconfig = service_account(ground, "a", *rules)
    async with bench(ground) as here:
        name = here.target(kubeconfig)
        message = await here.until(name, "Authorized", "False", "Forbidden")
        assert "cronjobs.batch" in message
        assert "jobs.batch" in message
        assert "configmaps" not in message
        await here.until(name, "Ready", "True")


async def test_a_secret_that_comes_later_is_used_when_it_comes(ground: Kubectl) -> None:
    async with bench(ground) as here:
        name = here.target(None)
        message = await here.until(name, "Connected", "False", "SecretNotFound")
        assert f"syncline-system/{name}" in message
        here.secret(name, here.kubeconfig("a"))
        await here.until(name, "Ready", "True", timeout_seconds=5)
        ground("upstream", "delete", "secret", name, "-n", "syncline-system")
        await here.until(name, "Connected", "False", "SecretNotFound", timeout_seconds=5)
        assert name not in here.engine.clients


async def test_a_dangerous_kubeconfig_is_refused_and_nothing_of_it_runs(ground: Kubectl, tmp_path: Path) -> None:
    """B29: exec plugin, file path, plain http, skip-verify, no CA; each names its field."""
    marker = tmp_path / "ran"
    async with bench(ground) as here:
        good = yaml.safe_load(here.kubeconfig("a"))
        name = here.target(None)
        for field, value, where in (
            (
                "exec",
                {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(marker)]},
                "users",
            ),
            ("tokenFile", "/etc/passwd", "users"),
            ("insecure-skip-tls-verify", True, "clusters"),
            ("server", "http://127.0.0.1:1", "clusters"),
            ("certificate-authority-data", "", "clusters"),
        ):
            config = json.loads(json.dumps(good))
            config[where][0][where.removesuffix("s")][field] = value
            here.secret(name, yaml.safe_dump(config))

            def told(field: str = field) -> bool:
                found = here.condition(name, "Connected")
                assert found[:2] == ("False", "InvalidKubeconfig"), found
                assert field in found[2], found
                return True

            await eventually(told)
        assert not marker.exists()
        assert here.engine.attachments == 0
        here.secret(name, here.kubeconfig("a"))
        await here.until(name, "Ready", "True")


async def test_the_wrong_cluster_is_never_written_to(ground: Kubectl) -> None:
    """P16: another cluster behind the name, the upstream itself, one cluster twice."""
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        here.secret(name, here.kubeconfig("b"))
        await here.until(name, "Ready", "False", "ClusterChanged")
        assert name not in here.engine.clients
        here.secret(name, here.kubeconfig("upstream"))
        await here.until(name, "Ready", "False", "UpstreamCluster")
        here.secret(name, here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        await asyncio.sleep(1.1)  # creation times have whole seconds
        twin = here.target(here.kubeconfig("a"))
        message = await here.until(twin, "Ready", "False", "DuplicateCluster")
        assert name in message
        assert here.condition(name, "Ready")[0] == "True"


async def test_an_address_where_nothing_listens_is_told(ground: Kubectl) -> None:
    async with bench(ground) as here:
        config = yaml.safe_load(here.kubeconfig("a"))
        config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        name = here.target(yaml.safe_dump(config))
        await here.until(name, "Ready", "False", "Unreachable", timeout_seconds=20)
        ground("upstream", "delete", "synctarget", name, "--wait=false")
        await here.gone(name)  # it never was connected, so nothing of ours can be there


async def test_a_deleted_target_waits_until_it_is_drained(ground: Kubectl) -> None:
    """P11: our finalizer goes when the engine holds nothing there; others' finalizers are not ours to touch."""
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        here.engine.held = 3
        here.engine.move = "apps/v1/Deployment/shop/web: moves to b, and stays here until it is ready there"
        ground("upstream", "delete", "synctarget", name, "--wait=false")
        message = await here.until(name, "Ready", "False", "Deleting")
        assert "3 objects" in message
        assert "moves to b" in message
        assert "spec.deletion: Orphan" in message  # the way out
        body = json.dumps({"metadata": {"finalizers": ["example.com/other", "syncline.io/target"]}})
        ground.attempt("upstream", "patch", "synctarget", name, "--type=merge", "-p", body)
        here.engine.held = 0
        await eventually(
            lambda: "syncline.io/target" not in ((here.get(name) or {}).get("metadata") or {}).get("finalizers", [])
        )
        assert name not in here.engine.clients


async def test_an_orphaning_target_goes_at_once_and_a_dead_draining_one_waits(ground: Kubectl) -> None:
    async with bench(ground) as here:
        orphan = here.target(here.kubeconfig("a"), deletion="Orphan")
        drain = here.target(here.kubeconfig("b"))
        for name in (orphan, drain):
            await here.until(name, "Ready", "True")
        here.engine.held = 3
        ground("upstream", "delete", "synctarget", orphan, "--wait=false")
        await here.gone(orphan, timeout_seconds=5)
        with stopped(ground, "b"):
            await here.until(drain, "Ready", "False", "Unreachable")
            ground("upstream", "delete", "synctarget", drain, "--wait=false")
            message = await here.until(drain, "Ready", "False", "Deleting")
            assert "does not answer" in message
            await asyncio.sleep(2)  # several probes long: it must stay
            assert here.get(drain) is not None
        here.engine.held = 0
        await here.gone(drain)


async def test_a_frozen_target_shows_its_token(ground: Kubectl) -> None:
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        here.engine.freeze = ("t0ken", "11 deletes wait")
        here.controller.look_again(name)
        assert "11 deletes" in await here.until(name, "Frozen", "True", "Frozen")
        assert (here.get(name) or {})["status"]["frozen"]["token"] == "t0ken"
        here.engine.freeze = ("", "CustomResourceDefinition placements.syncline.io is being deleted")
        here.controller.look_again(name)
        await here.until(name, "Frozen", "True", "ApiRemoved")
        here.engine.freeze = None
        here.controller.look_again(name)
        await here.until(name, "Frozen", "False")


async def test_removing_our_crds_lets_targets_go_without_draining(ground: Kubectl) -> None:
    """F60: the finalizer does not hold up the removal, the engine is not asked to drain, and a new install works."""
    async with bench(ground) as here:
        name = here.target(here.kubeconfig("a"))
        await here.until(name, "Ready", "True")
        here.engine.held = 3
        try:
            said = await asyncio.to_thread(
                ground, "upstream", "delete", "crd", "synctargets.syncline.io", "--timeout=20s"
            )
            assert "deleted" in said
        finally:
            install_crds(ground)
        again = here.target(here.kubeconfig("a"))
        await here.until(again, "Ready", "True", timeout_seconds=40)
        assert here.engine.held == 3
