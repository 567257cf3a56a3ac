"""Admission on a real API server, through kopf and our own server."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.local.fleet import Fleet
from syncer.api.synctarget import SyncTarget
from tests.support.fleet import Kubectl, wait_until
from tests.syncer.api.cases import CONFIGMAPS, EMPTY_SELECTORS, Refused, cluster_placement, placement, sync_target
from tests.syncer.api.server import Answer, Server
from tests.syncer.webhooks.serving import CONFIGURATIONS, Webhooks

ROLES = Path(__file__).parents[3] / "deploy" / "rbac" / "operator.yaml"
SECRETS = CONFIGMAPS | {"kind": "Secret"}


@pytest.fixture(scope="module")
def webhooks(fleet: Fleet, kubectl: Kubectl, crds: None) -> Iterator[Webhooks]:
    """Served with the operator's own rights, deploy/rbac/operator.yaml."""
    kubectl("upstream", "apply", "--server-side", "--force-conflicts", "-f", str(ROLES))
    running = Webhooks(fleet.upstream.user("syncline-operator"), kubectl)
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.remove_configurations()


@pytest.fixture
def admin(fleet: Fleet, webhooks: Webhooks) -> Server:
    return Server(fleet.upstream.kubeconfig)


@pytest.fixture
def bob(fleet: Fleet, webhooks: Webhooks) -> Server:
    return Server(fleet.upstream.user("bob"))


@pytest.fixture
def grant(kubectl: Kubectl, namespace: str) -> Iterator[Callable[..., None]]:
    """Gives bob a right: `grant("get", "secrets", names=…)` in the namespace, or with `cluster=True` everywhere."""
    made: list[str] = []

    def give(verb: str, resource: str, group: str = "", names: tuple[str, ...] = (), *, cluster: bool = False) -> None:
        name = f"{namespace}-{len(made)}"
        made.append(name)
        kind = "ClusterRole" if cluster else "Role"
        rule = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        if names:
            rule["resourceNames"] = list(names)
        metadata = {"name": name} if cluster else {"name": name, "namespace": namespace}
        api = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": [rule]}
        binding = {
            "apiVersion": f"{api}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "subjects": [{"kind": "User", "name": "bob", "apiGroup": api}],
            "roleRef": {"kind": kind, "name": name, "apiGroup": api},
        }
        kubectl.apply("upstream", role, binding)

    yield give
    for name in made:
        kubectl("upstream", "delete", "clusterrole,clusterrolebinding", name, "--ignore-not-found")


@pytest.fixture
def placer(bob: Server, grant: Callable[..., None]) -> Server:
    """Bob may create placements and read ConfigMaps in the namespace, and use target east."""
    for verb in ("create", "update", "get"):
        grant(verb, "placements", "syncline.io")
    grant("get", "configmaps")
    grant("use", "synctargets", "syncline.io", ("east",), cluster=True)
    return bob


def _refused(server: Server, manifest: dict[str, Any], code: int, *says: str) -> None:
    with pytest.raises(Answer) as caught:
        server.create(manifest)
    assert caught.value.code == code, caught.value.message
    for text in says:
        assert text in caught.value.message


def _allowed_at_last(server: Server, manifest: dict[str, Any]) -> None:
    """The API server's authorizer sees new roles within moments."""

    def check() -> bool:
        try:
            return bool(server.create(manifest))
        except Answer as answer:
            raise AssertionError(answer.message) from None

    wait_until(check)


@pytest.mark.parametrize("manifest", [placement(namespace="default"), cluster_placement(), sync_target("new")])
def test_a_good_object_is_admitted(admin: Server, manifest: dict[str, Any]) -> None:
    assert admin.create(manifest)["kind"] == manifest["kind"]


@pytest.mark.parametrize("case", EMPTY_SELECTORS, ids=lambda case: case.title)
def test_what_the_crd_refuses_is_refused_with_webhooks_too(admin: Server, case: Refused, namespace: str) -> None:
    """B03"""
    manifest = dict(case.manifest)
    if manifest["kind"] == "Placement":
        manifest["metadata"] = manifest["metadata"] | {"namespace": namespace}
    _refused(admin, manifest, 422, case.path)


def test_a_transform_that_touches_identity_is_refused_with_its_path(admin: Server, namespace: str) -> None:
    """B11: index, path and field."""
    patch = [{"op": "replace", "path": "/metadata/name", "value": "x"}]
    manifest = placement(namespace=namespace, transforms=[{"replicas": 1}, {"jsonPatch": patch}])
    _refused(admin, manifest, 422, "spec.transforms[1].jsonPatch[0]", "/metadata/name")


def test_a_cluster_scoped_kind_is_forbidden_in_a_namespace(admin: Server, namespace: str) -> None:
    """B17: even for an administrator."""
    entry = {"apiVersion": "v1", "kind": "PersistentVolume", "names": ["*"]}
    _refused(admin, placement(namespace=namespace, resources=[entry]), 403, "cluster-scoped", "ClusterPlacement")


@pytest.mark.parametrize("kind", [("v1", "Node"), ("rbac.authorization.k8s.io/v1", "ClusterRole")])
def test_a_denied_kind_is_forbidden_naming_the_policy(admin: Server, kind: tuple[str, str]) -> None:
    """B18"""
    entry = {"apiVersion": kind[0], "kind": kind[1], "names": ["*"]}
    _refused(admin, cluster_placement(resources=[entry]), 403, "policy denied-kinds", kind[1])


def test_a_protected_namespace_is_refused(admin: Server) -> None:
    """B20"""
    _refused(admin, placement(namespace="kube-system"), 422, "metadata.namespace", "ProtectedNamespace")


def test_a_missing_target_is_admitted_with_a_warning(kubectl: Kubectl, webhooks: Webhooks, namespace: str) -> None:
    """B02: kubectl shows it at once."""
    manifest = placement(namespace=namespace, targets={"names": ["nowhere"]})
    applied = kubectl.attempt("upstream", "create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
    assert applied.returncode == 0, applied.stderr
    assert "Warning: spec.targets.names[0]: TargetNotFound: nowhere" in applied.stderr


def test_only_users_of_a_target_place_on_it(placer: Server, grant: Callable[..., None], namespace: str) -> None:
    """Verb `use` on each synctargets/NAME for the requesting user; a selection by label takes all of them."""
    _allowed_at_last(placer, placement(namespace=namespace))
    west = placement(namespace=namespace, targets={"names": ["east", "west"]})
    _refused(placer, west, 403, 'user "bob" may not use synctargets.syncline.io/west', "spec.targets")
    everywhere = placement(namespace=namespace, targets={"all": True})
    labelled = placement(namespace=namespace, targets={"labelSelector": {"matchLabels": {"region": "eu"}}})
    for manifest in (everywhere, labelled):
        _refused(placer, manifest, 403, "may not use synctargets.syncline.io", "right to use all of them")
    grant("use", "synctargets", "syncline.io", cluster=True)
    for manifest in (west, everywhere, labelled):
        _allowed_at_last(placer, manifest)


def test_a_placement_reaches_only_kinds_that_its_writer_may_get(
    placer: Server, grant: Callable[..., None], namespace: str
) -> None:
    """No way around RBAC to read Secrets."""
    _allowed_at_last(placer, placement(namespace=namespace))
    secrets = placement(namespace=namespace, resources=[CONFIGMAPS, SECRETS])
    _refused(placer, secrets, 403, f"may not get secrets in namespace {namespace}", "spec.resources[1]")
    everything = placement(namespace=namespace, resources=[{"apiVersion": "*", "kind": "*", "names": ["*"]}])
    _refused(placer, everything, 403, "may not get *.*")
    unknown = placement(
        namespace=namespace, resources=[{"apiVersion": "apps/v1", "kind": "Deploymnet", "names": ["a"]}]
    )
    _refused(placer, unknown, 403, "may not get *.apps")
    grant("get", "secrets")
    _allowed_at_last(placer, secrets)


def test_a_change_needs_the_same_rights_but_labels_do_not(
    admin: Server, placer: Server, grant: Callable[..., None], namespace: str
) -> None:
    _allowed_at_last(placer, placement(namespace=namespace))
    stored = admin.create(placement(namespace=namespace, targets={"names": ["west"]}), keep=True)
    stored["metadata"]["labels"] = {"team": "web"}
    stored = placer.replace(stored)
    stored["spec"]["suspend"] = True
    with pytest.raises(Answer, match=r"synctargets\.syncline\.io/west"):
        placer.replace(stored)


def test_a_target_uses_only_a_secret_that_its_writer_may_get(bob: Server, grant: Callable[..., None]) -> None:
    """The operator reads no Secret for people who may not."""
    grant("create", "synctargets", "syncline.io", cluster=True)
    manifest = sync_target("bobs")

    def is_refused() -> bool:
        with pytest.raises(Answer) as caught:
            bob.create(manifest)
        return "may not get secrets/bobs in namespace syncline-system" in caught.value.message

    wait_until(is_refused)
    grant("get", "secrets", names=("bobs",), cluster=True)
    _allowed_at_last(bob, manifest)


def test_the_kubeconfig_secret_gets_the_targets_name(admin: Server) -> None:
    """The mutating webhook writes out what a CRD default cannot."""
    connection = admin.create(sync_target("fresh"))["spec"]["connection"]
    assert connection["direct"]["kubeconfigSecretRef"]["name"] == "fresh"
    said = {"direct": {"kubeconfigSecretRef": {"name": "other", "key": "value"}}}
    connection = admin.create(sync_target("fresh", connection=said))["spec"]["connection"]
    expected = {"namespace": "syncline-system", "name": "other", "key": "value"}
    assert connection["direct"]["kubeconfigSecretRef"] == expected


def test_a_target_that_allows_a_denied_kind_counts_at_once(admin: Server, webhooks: Webhooks, namespace: str) -> None:
    """B18: the owner of a target may open it."""
    manifest = placement(
        namespace=namespace, resources=[{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "names": ["a"]}]
    )
    _refused(admin, manifest, 403, "denied-kinds")
    allow = {"allow": ["roles.rbac.authorization.k8s.io"]}
    webhooks.targets["open"] = SyncTarget.parse(sync_target("open", resources=allow))
    try:
        assert admin.create(manifest)
    finally:
        del webhooks.targets["open"]


def test_removed_configurations_come_back(kubectl: Kubectl, webhooks: Webhooks) -> None:
    for kind in CONFIGURATIONS:
        kubectl("upstream", "delete", kind, "syncline.io")
        wait_until(partial(kubectl.get, "upstream", kind, "syncline.io"))


def test_configurations_are_fail_closed_for_our_kinds_only(kubectl: Kubectl, webhooks: Webhooks) -> None:
    for kind in CONFIGURATIONS:
        configuration = kubectl.get("upstream", kind, "syncline.io")
        assert configuration is not None
        (webhook,) = configuration["webhooks"]
        assert webhook["failurePolicy"] == "Fail"
        assert webhook["sideEffects"] == "None"
        (rule,) = webhook["rules"]
        assert rule["apiGroups"] == ["syncline.io"]
        assert rule["operations"] == ["CREATE", "UPDATE"]
        assert not [resource for resource in rule["resources"] if "/" in resource or "*" in resource]


def _review(**change: Any) -> dict[str, Any]:
    request = {
        "uid": "u",
        "kind": {"group": "syncline.io", "version": "v1alpha1", "kind": "Placement"},
        "resource": {"group": "syncline.io", "version": "v1alpha1", "resource": "placements"},
        "operation": "CREATE",
        "userInfo": {"username": "system:admin", "groups": ["system:masters"]},
        "object": placement(),
        "oldObject": None,
        "dryRun": True,
        "namespace": "shop",
        "name": "web",
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request | change}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}',
        b"\xff\xfe",
    ],
)
async def test_what_is_no_review_is_a_bad_request(webhooks: Webhooks, body: bytes) -> None:
    """B33"""
    status, text = await _post(webhooks, body)
    assert status == 400
    assert "not an AdmissionReview" in text


@pytest.mark.parametrize(
    "change",
    [
        {"uid": ""},
        {"object": None},
        {"object": []},
        {"userInfo": None},
        {"operation": "PAINT"},
        {"resource": {"group": "apps", "version": "v1", "resource": "deployments"}},
    ],
    ids=str,
)
async def test_a_review_with_a_part_missing_is_a_bad_request(webhooks: Webhooks, change: dict[str, Any]) -> None:
    """B33"""
    status, _ = await _post(webhooks, _review(**change))
    assert status == 400


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"operation": "UPDATE"},
        {"operation": "UPDATE", "oldObject": placement()},
        {"operation": "DELETE", "object": None, "oldObject": placement()},
    ],
    ids=str,
)
async def test_null_old_objects_and_dry_runs_are_answered(webhooks: Webhooks, change: dict[str, Any]) -> None:
    """B33"""
    status, text = await _post(webhooks, _review(**change))
    assert status == 200
    assert '"allowed": true' in text


async def test_a_review_of_an_object_without_spec_is_answered(webhooks: Webhooks) -> None:
    """B33: the API server refuses such an object itself, yet it may ask first."""
    status, text = await _post(webhooks, _review(object={"kind": "Placement", "metadata": {"name": "x"}}))
    assert status == 200
    assert "spec: Field required" in text
    target = {"kind": "SyncTarget", "metadata": {"name": "x"}}
    resource = {"group": "syncline.io", "version": "v1alpha1", "resource": "synctargets"}
    status, text = await _post(webhooks, _review(object=target, resource=resource), "mutate")
    assert status == 200
    assert '"allowed": true' in text


async def _post(webhooks: Webhooks, body: bytes | dict[str, Any], handler: str = "validate") -> tuple[int, str]:
    context = ssl.create_default_context(cadata=webhooks.ca)
    async with aiohttp.ClientSession() as session:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{webhooks.client_config['url']}/{handler}"
        async with session.post(url, data=data, ssl=context) as response:
            return response.status, await response.text()
