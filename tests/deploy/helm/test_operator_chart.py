"""The operator's chart: what it refuses, what it renders in each mode, and that it asks for no more than it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.helm.render import CHARTS, copies, manifests
from deploy.helm.tool import run
from deploy.local.errors import GroundError
from tests.deploy.helm.conftest import Objects, Render
from tests.deploy.helm.golden.__main__ import rendered

HOST = {"upstream.mode": "host"}
EXTERNAL = {"upstream.mode": "external", "upstream.external.kubeconfigSecret.name": "up"}
MODES = {"host": HOST, "external": EXTERNAL, "hosted": {"upstream.mode": "hosted"}}


@pytest.mark.parametrize("mode", MODES)
def test_helm_lint_finds_nothing(helm: Path, mode: str) -> None:
    sets = [word for path, value in MODES[mode].items() for word in ("--set", f"{path}={value}")]
    assert "0 chart(s) failed" in run(helm, ["lint", "--strict", str(CHARTS / "syncline"), *sets])


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("replicas", "two", "at '/replicas': got string, want integer"),
        ("replicas", "0", "at '/replicas'"),
        ("hub.externalUrl", "https://hub", "at '/hub': additional properties 'externalUrl' not allowed"),
        ("hub.externalURL", "http://hub", "at '/hub/externalURL'"),
        ("image.digest", "sha256:12", "at '/image/digest'"),
        ("upstream.mode", "inside", "at '/upstream/mode': value must be one of 'hosted', 'external', 'host'"),
        ("webhooks.mode", "on", "at '/webhooks/mode'"),
        ("upstream.mode", "external", "needs upstream.external.kubeconfigSecret.name"),
        ("hub.ingress.enabled", "true", "set hub.externalURL"),
        ("serviceMonitor.enabled", "true", "needs serviceMonitor.tokenSecret.name"),
        ("nonsense", "1", "additional properties 'nonsense' not allowed"),
        ("upstream.hosted.resources.ectd.limits.memory", "1Gi", "additional properties 'ectd' not allowed"),
        ("upstream.hosted.service.annotations.foo", "1", "at '/upstream/hosted/service/annotations/foo'"),
        ("hub.service.nodePort", "30443", "hub.service.nodePort needs hub.service.type NodePort or LoadBalancer"),
    ],
)
def test_wrong_values_are_refused_with_the_place(render: Render, path: str, value: str, said: str) -> None:
    with pytest.raises(GroundError) as caught:
        render("syncline", {path: value})
    assert said in str(caught.value)


def test_files_of_the_charts_and_the_manifests_are_up_to_date(helm: Path) -> None:
    for path, text in (copies() | manifests(helm)).items():
        assert path.read_text() == text, f"{path}: run python -m deploy.helm"


def test_the_charts_render_what_they_rendered_before(helm: Path) -> None:
    """Golden files for several sets of values; a change of a chart shows all that it changes."""
    wanted = rendered(helm)
    assert len(wanted) >= 3
    for path, text in wanted.items():
        assert path.read_text() == text, f"{path}: if it is meant, run python -m tests.deploy.helm.golden"


def _arguments(objects: Objects) -> list[str]:
    (container,) = objects["Deployment", "syncline-operator"]["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def test_mode_host_reaches_the_webhooks_by_their_service(render: Render) -> None:
    """API servers do not ask their cluster's DNS. The configurations belong to the release: uninstall removes them."""
    objects = render("syncline", HOST)
    assert "--webhook-url=service://syncline-webhook.syncline-system.svc:443" in _arguments(objects)
    assert not any(argument.startswith("--kubeconfig") for argument in _arguments(objects))
    assert ("ValidatingWebhookConfiguration", "syncline.io") in objects
    assert ("ClusterRole", "syncline-operator-webhooks") not in objects
    assert ("CustomResourceDefinition", "placements.syncline.io") in objects


def test_mode_external_keeps_to_its_kubeconfig(render: Render) -> None:
    """Nothing of upstream is put into this cluster: no kinds, no roles, no webhooks, no token of it."""
    objects = render("syncline", EXTERNAL)
    kinds = {kind for kind, _ in objects}
    assert kinds == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    assert "--webhooks=off" in _arguments(objects)
    assert "--kubeconfig=/etc/syncline/upstream/kubeconfig" in _arguments(objects)
    pod = objects["Deployment", "syncline-operator"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    with_webhooks = render("syncline", {**EXTERNAL, "webhooks.url": "https://hooks.example/"})
    assert "--webhook-url=https://hooks.example" in _arguments(with_webhooks)


@pytest.mark.parametrize("namespace", ["syncline-system", "elsewhere"])
def test_kinds_and_credentials_outlive_an_uninstall(render: Render, namespace: str) -> None:
    """The end of a CRD would take every placement along, that of the namespace all authorities and kubeconfigs."""
    objects = render("syncline", HOST, namespace=namespace)
    assert (("Namespace", "syncline-system") in objects) == (namespace == "elsewhere")
    for (kind, _), manifest in objects.items():
        kept = manifest["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        assert kept == (kind in ("CustomResourceDefinition", "Namespace"))


def test_a_digest_wins_over_the_tag(render: Render) -> None:
    digest = "sha256:" + "a" * 64
    objects = render("syncline", {"image.digest": digest, "image.tag": "x", "image.registry": "mirror.example:5000"})
    (container,) = objects["Deployment", "syncline-operator"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"mirror.example:5000/syncline/syncline@{digest}"


def test_the_hub_is_where_the_values_say(render: Render) -> None:
    assert "--hub-url=https://syncline-hub.syncline-system.svc:8443" in _arguments(render("syncline"))
    given = {
        "hub.externalURL": "https://hub.example.com:443/",
        "hub.ingress.enabled": "true",
        "hub.names[0]": "10.0.0.9",
    }
    objects = render("syncline", {**given, "hub.service.type": "NodePort", "hub.service.nodePort": "30443"})
    assert "--hub-url=https://hub.example.com:443" in _arguments(objects)
    (names,) = [argument for argument in _arguments(objects) if argument.startswith("--hub-names=")]
    assert names.endswith("syncline-hub.syncline-system.svc,hub.example.com,10.0.0.9")
    assert objects["Ingress", "syncline-hub"]["spec"]["rules"][0]["host"] == "hub.example.com"
    assert objects["Service", "syncline-hub"]["spec"]["ports"][0]["nodePort"] == 30443


def test_cleanup_is_a_hook_with_rights_of_its_own(render: Render) -> None:
    """Off unless asked for; and only the hook's own ServiceAccount may delete targets."""
    assert ("Job", "syncline-cleanup") not in render("syncline", HOST)
    objects = render("syncline", {**HOST, "cleanup": "true"})
    ours = [one for (_, name), one in objects.items() if name == "syncline-cleanup"]
    assert {one["kind"] for one in ours} == {"Job", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    assert all(one["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete" for one in ours)
    (rule,) = objects["ClusterRole", "syncline-cleanup"]["rules"]
    assert rule == {"apiGroups": ["syncline.io"], "resources": ["synctargets"], "verbs": ["get", "list", "delete"]}
    selector = objects["Service", "syncline-hub"]["spec"]["selector"]
    job = objects["Job", "syncline-cleanup"]["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= job.items()


def test_the_network_policy_lets_out_what_the_values_say(render: Render) -> None:
    """S72: the proxy's port comes by itself; nobody may ask for metrics where nobody is listed."""
    values = {"proxy.url": "http://proxy.example:3128", "networkPolicy.metricsFrom": "null"}
    spec = render("syncline", values)["NetworkPolicy", "syncline-operator"]["spec"]
    assert {3128, 443, 6443} <= egress(spec)
    assert all(rule["ports"] != [{"port": "http"}] for rule in spec["ingress"])
    spec = render("syncline")["NetworkPolicy", "syncline-operator"]["spec"]
    assert [rule["from"] for rule in spec["ingress"] if rule["ports"] == [{"port": "http"}]] == [
        [{"namespaceSelector": {}}]
    ]
    assert egress(spec) == {53, 443, 6443, 8443}


def egress(spec: dict[str, Any]) -> set[int]:
    """Ports of a NetworkPolicy's egress."""
    return {entry["port"] for rule in spec["egress"] for entry in rule["ports"]}


@pytest.mark.parametrize(
    ("size", "quota"),
    [("8Gi", 6442450944), ("512Mi", 402653184), ("1.5Gi", 1207959552), ("1Ti", 8589934592), ("20Gi", 8589934592)],
)
def test_etcd_keeps_off_the_end_of_its_disk(render: Render, size: str, quota: int) -> None:
    objects = render("syncline", {"upstream.hosted.storage.size": size})
    (etcd,) = objects["StatefulSet", "syncline-upstream"]["spec"]["template"]["spec"]["initContainers"]
    assert f"--quota-backend-bytes={quota}" in etcd["command"]


def notes(helm: Path, values: dict[str, str]) -> str:
    """What a user reads after the installation."""
    sets = [word for path, value in values.items() for word in ("--set", f"{path}={value}")]
    where = ["--namespace", "elsewhere", "--dry-run=client"]
    return run(helm, ["install", "syncline", str(CHARTS / "syncline"), *where, *sets]).partition("NOTES:")[2]


def test_the_notes_lead_to_an_upstream_that_a_desk_reaches(helm: Path) -> None:
    said = notes(helm, {})
    assert "kubectl -n elsewhere port-forward service/syncline-upstream 6443" in said
    assert "syncline kubeconfig --upstream -n elsewhere --server https://127.0.0.1:6443 > upstream.yaml" in said


def test_the_notes_of_an_external_upstream_say_which_webhooks_stay(helm: Path) -> None:
    left = "delete validatingwebhookconfiguration,mutatingwebhookconfiguration syncline.io"
    assert left in notes(helm, {**EXTERNAL, "webhooks.url": "https://hooks.example"})
    assert left not in notes(helm, EXTERNAL)
