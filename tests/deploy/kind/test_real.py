"""Three kind clusters at once, built without a registry: real kubelets, real containers, and nothing left behind.

`SYNCLINE_TEST_FLEET=FOLDER` uses a fleet that runs already, and leaves it running.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from deploy.local.kind import engine, traces, ways
from deploy.local.kind.archive import Image, Layer, write_archive
from deploy.local.kind.images import BUSYBOX_IMAGE, CURL_IMAGE
from deploy.local.kind.nodeimage import NodeImage, image_folder
from deploy.local.kind.provider import KindProvider, command_environment, kind_name, load
from deploy.local.kind.site import node_of
from deploy.local.plan import FleetRequest
from tests.support.fleet import REUSE_VARIABLE, Kubectl, wait_until

VARIABLE = "SYNCLINE_TEST_KIND"


def reason_to_skip() -> str:
    """Why there can be no clusters here; empty when there can."""
    if os.environ.get(VARIABLE) != "1":
        return f"set {VARIABLE}=1 for three real clusters, a minute and 2 GB of memory"
    lacking = [f"{check.name}: {check.problem}" for check in ways.checks(os.environ) if not check.holds]
    if lacking:
        return f"the machine lacks {'; '.join(lacking)}"
    if not NodeImage(image_folder(os.environ), Path()).complete:
        return "the node image is not built: make kind-image"
    if engine.runs() and not os.environ.get(REUSE_VARIABLE):
        return f"another kind fleet is up: {engine.owner()}"
    return ""


REASON = reason_to_skip()
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.timeout(600),
]


def silent(line: str) -> None:
    """Takes the progress of what a test starts."""


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Upstream, east and west. At the end the machine must be as it was."""
    if running := os.environ.get(REUSE_VARIABLE):
        yield Fleet.load(Path(running))
        return
    folder = tmp_path_factory.mktemp("kind")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(ways.WAY_VARIABLE, "built")
        before = traces.picture()
        yield KindProvider(folder / "fleet", owner_pid=os.getpid()).up(FleetRequest(), silent)
        KindProvider(folder / "fleet").down(silent)
        assert traces.differences(before, traces.picture()) == []


@pytest.fixture(scope="module")
def real_kubectl(clusters: Fleet) -> Kubectl:
    return Kubectl(clusters)


@pytest.fixture
def space(real_kubectl: Kubectl) -> Iterator[str]:
    """A fresh namespace on east."""
    name = f"kind-{uuid.uuid4().hex[:8]}"
    real_kubectl("east", "create", "namespace", name)
    yield name
    real_kubectl("east", "delete", "namespace", name, "--wait=false")


def pod(name: str, image: str, *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", "command": list(command), **spec}
    labels = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def ready(kubectl: Kubectl, space: str, *pods: str) -> None:
    kubectl(
        "east", "-n", space, "wait", "--for=condition=Ready", "--timeout=90s", *(f"pod/{name}" for name in pods),
        timeout_seconds=100,
    )  # fmt: skip


def dials(fleet: Fleet, caller: str, called: str) -> bool:
    """Whether a node of one cluster reaches the API server of another."""
    address = fleet.clusters[called].address
    said = engine.docker(
        "exec", node_of(kind_name(caller)),
        "curl", "--insecure", "--silent", "--max-time", "3", f"https://{address}:6443/version",
        check=False,
    )  # fmt: skip
    return "gitVersion" in said


def test_each_cluster_has_one_node_that_is_ready(clusters: Fleet, real_kubectl: Kubectl) -> None:
    for name in clusters.clusters:
        (node,) = real_kubectl.items(name, "nodes")
        assert {item["type"]: item["status"] for item in node["status"]["conditions"]}["Ready"] == "True"
        assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.4"
    rows = KindProvider(clusters.folder).status()
    assert {row.state for row in rows} == {"running", "ready"}


def test_a_second_up_returns_the_fleet_that_runs(clusters: Fleet) -> None:
    again = KindProvider(clusters.folder).up(FleetRequest(), pytest.fail)
    assert again.as_json() == clusters.as_json()


def test_targets_dial_upstream_and_nobody_dials_a_target(clusters: Fleet) -> None:
    assert dials(clusters, "upstream", "upstream")
    assert dials(clusters, "east", "upstream")
    assert dials(clusters, "west", "upstream")
    assert not dials(clusters, "upstream", "east")
    assert not dials(clusters, "upstream", "west")
    assert not dials(clusters, "west", "east")


def test_nothing_can_leave_the_network_of_the_clusters(clusters: Fleet) -> None:
    routes = subprocess.run(
        [*clusters.inside, "ip", "route", "show", "default"], capture_output=True, text=True, timeout=10, check=True
    )
    assert routes.stdout == ""


def test_a_plain_user_has_a_certificate_and_no_rights(clusters: Fleet, real_kubectl: Kubectl) -> None:
    alice = clusters.targets["east"].user("alice")
    said = real_kubectl.attempt("east", "get", "pods", kubeconfig=alice)
    assert said.returncode == 1
    assert 'User "alice" cannot list resource "pods"' in said.stderr


def test_containers_run_answer_and_keep_data(real_kubectl: Kubectl, space: str) -> None:
    """Logs, exit codes, stdin, Service names and volumes: what fake nodes cannot do."""
    serve = "mkdir /w && echo hello from $(hostname) > /w/index.html && echo started && exec httpd -f -p 8080 -h /w"
    web = pod("web", BUSYBOX_IMAGE, "sh", "-c", serve, ports=[{"containerPort": 8080}])
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    mounted = [{"name": "data", "mountPath": "/data"}]
    client = pod("client", CURL_IMAGE, "sh", "-c", "echo kept > /data/file && sleep 3600", volumeMounts=mounted)
    client["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    objects = [web, service, claim, client]
    for item in objects:
        item["metadata"]["namespace"] = space
    real_kubectl.apply("east", *objects)
    ready(real_kubectl, space, "web", "client")
    in_space = ("east", "-n", space)
    assert real_kubectl(*in_space, "logs", "web").strip() == "started"
    assert real_kubectl.attempt(*in_space, "exec", "web", "--", "sh", "-c", "exit 7").returncode == 7
    assert real_kubectl(*in_space, "exec", "-i", "web", "--", "cat", stdin="through\n") == "through\n"
    assert real_kubectl(*in_space, "exec", "client", "--", "cat", "/data/file") == "kept\n"
    name = f"http://web.{space}.svc.cluster.local/"
    answered = wait_until(
        lambda: real_kubectl(*in_space, "exec", "client", "--", "curl", "--silent", "--max-time", "5", name),
        timeout_seconds=60,  # CoreDNS may still be starting
    )
    assert answered == "hello from web\n"


def test_an_image_that_is_loaded_can_be_run(clusters: Fleet, real_kubectl: Kubectl, space: str, tmp_path: Path) -> None:
    """An archive as `make image` writes it, on one cluster of the fleet and not on the others."""
    archive = tmp_path / "image.tar"
    small_image(archive, "syncline.test/loaded:1")
    load(clusters.folder, str(archive), ["east"])
    manifest = pod("loaded", "syncline.test/loaded:1", "/bin/sh", "-c", "sleep 3600")
    manifest["metadata"]["namespace"] = space
    real_kubectl.apply("east", manifest)
    ready(real_kubectl, space, "loaded")
    listed = engine.docker("exec", node_of(kind_name("west")), "crictl", "images")
    assert "syncline.test/busybox" in listed
    assert "syncline.test/loaded" not in listed


def small_image(path: Path, tag: str) -> None:
    """An archive with busybox, taken from a node."""
    binary = path.with_name("busybox")
    engine.docker("cp", f"{node_of(kind_name('east'))}:/usr/bin/busybox", str(binary))
    layer = Layer()
    layer.file("bin/busybox", binary)
    layer.link("bin/sh", "busybox")
    layer.link("bin/sleep", "busybox")
    layer.write(path.with_name("layer.tar"))
    write_archive(path, [Image((tag,), path.with_name("layer.tar"))], architecture="amd64")


def test_a_command_inside_reaches_the_clusters_and_one_outside_does_not(clusters: Fleet) -> None:
    inside, environ = command_environment(clusters.folder)
    assert shutil.which("kind", path=environ["PATH"])
    asked = subprocess.run(
        [*inside, "kubectl", "--context=west", "get", "--raw=/readyz", "--request-timeout=5s"],
        env=environ, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert asked.stdout == "ok"
    with pytest.raises(OSError, match=r"refused|urlopen"):
        urllib.request.urlopen(clusters.upstream.server, timeout=5)
