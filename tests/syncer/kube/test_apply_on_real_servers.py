"""What kube-apiserver really answers: apply rules, ownership after defaulting, refusals, discovery, watches."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson
import pytest

from deploy.local.fleet import Fleet
from syncer.errors import TerminalError
from syncer.kube import discovery as discovery_module
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    SchemaMismatch,
    TooLarge,
    Unauthorized,
)
from syncer.kube.fields import (
    FieldSet,
    Path,
    differing,
    digest,
    owners,
    parse_field_text,
    pointer,
    surplus,
    uncovered,
)
from syncer.kube.kubeconfig import Access, parse_kubeconfig
from syncer.kube.objects import KubeObject, ResourceInfo
from tests.support.fleet import Kubectl
from tests.syncer.kube.manifests import MANIFESTS
from tests.syncer.kube.real import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, apply, configmap


async def info_of(client: ClusterClient, manifest: dict[str, Any]) -> ResourceInfo:
    discovery = Discovery(client)
    await discovery.refresh()
    found = discovery.find(manifest["apiVersion"], manifest["kind"])
    assert found is not None
    return found


def drifted(manifest: dict[str, Any], item: KubeObject) -> list[Path]:
    """What another apply of the manifest would change."""
    owned = FieldSet.parse(item.owned)
    return [*uncovered(manifest, owned), *surplus(manifest, owned), *differing(manifest, item.manifest(), owned)]


async def test_an_apply_with_version_one_only_creates(upstream: ClusterClient, namespace: str) -> None:
    """F64: 201 where nothing is, 409 where something is; nothing is merged into it."""
    created, status = await apply(upstream, CONFIGMAPS, configmap(a="1"), namespace, resourceVersion="1")
    assert (status, created.field("data")) == (201, {"a": "1"})
    with pytest.raises(Conflict) as caught:
        await apply(upstream, CONFIGMAPS, configmap(b="2"), namespace, resourceVersion="1")
    assert caught.value.field_conflicts == ()
    after = await upstream.get(CONFIGMAPS, namespace, "c")
    assert (after.resource_version, after.field("data")) == (created.resource_version, {"a": "1"})


async def test_an_apply_with_a_uid_never_recreates_and_never_hits_another_object(
    upstream: ClusterClient, namespace: str
) -> None:
    """P2, P20."""
    created, _ = await apply(upstream, CONFIGMAPS, configmap(a="1"), namespace)
    _, status = await apply(upstream, CONFIGMAPS, configmap(a="2"), namespace, uid=created.uid)
    assert status == 200
    await upstream.delete(CONFIGMAPS, namespace, "c", uid=created.uid)
    with pytest.raises(Conflict):
        await apply(upstream, CONFIGMAPS, configmap(a="3"), namespace, uid=created.uid)
    with pytest.raises(NotFound):
        await upstream.get(CONFIGMAPS, namespace, "c")
    await apply(upstream, CONFIGMAPS, configmap(foreign="x"), namespace)
    with pytest.raises((Invalid, Conflict)) as caught:
        await apply(upstream, CONFIGMAPS, configmap(a="3"), namespace, uid=created.uid)
    if isinstance(caught.value, Invalid):
        assert caught.value.other_uid
    assert (await upstream.get(CONFIGMAPS, namespace, "c")).field("data") == {"foreign": "x"}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=[m["kind"] for m in MANIFESTS])
async def test_what_was_applied_is_covered_after_the_servers_defaults(
    upstream: ClusterClient, namespace: str, manifest: dict[str, Any]
) -> None:
    """P5: no second write follows from defaults, quantities, empty values or key fields that the manifest left out."""
    info = await info_of(upstream, manifest)
    first, status = await apply(upstream, info, manifest, namespace)
    assert status == 201
    assert first.owned is not None
    owned = FieldSet.parse(first.owned)
    assert uncovered(manifest, owned) == []
    assert surplus(manifest, owned) == []
    assert differing(manifest, first.manifest(), owned) == []
    for _ in range(5):  # controllers touch some kinds right after creation
        before = await upstream.get(info, namespace, manifest["metadata"]["name"])
        again, status = await apply(upstream, info, manifest, namespace)
        if again.resource_version == before.resource_version:
            break
    assert (status, again.resource_version) == (200, before.resource_version)
    assert digest(again.owned) == digest(first.owned)
    read = await upstream.get(info, namespace, manifest["metadata"]["name"])
    assert read.owned == first.owned
    assert drifted(manifest, read) == []


async def test_edits_of_others_are_seen_by_ownership_alone(
    upstream: ClusterClient, namespace: str, kubectl: Kubectl
) -> None:
    """F45: changed, removed, scaled; and foreign additions are not drift."""
    manifest = MANIFESTS[0]
    first, _ = await apply(upstream, DEPLOYMENTS, manifest, namespace)

    async def after(*arguments: str) -> KubeObject:
        await asyncio.to_thread(kubectl, "upstream", "-n", namespace, *arguments)
        return await upstream.get(DEPLOYMENTS, namespace, "web")

    added = await after("label", "deployment", "web", "foreign=yes")
    assert digest(added.owned) == digest(first.owned)
    assert drifted(manifest, added) == []

    scaled = await after("scale", "deployment", "web", "--replicas=5")
    assert uncovered(manifest, FieldSet.parse(scaled.owned)) == [("spec", "replicas")]
    full = await upstream.get_json(DEPLOYMENTS.path(namespace, "web"))
    assert owners(full["metadata"]["managedFields"], "/spec/replicas") == ["kubectl"]

    await apply(upstream, DEPLOYMENTS, manifest, namespace)
    edited = await after("set", "image", "deployment/web", "web=example.com/other:2")
    (path,) = uncovered(manifest, FieldSet.parse(edited.owned))
    assert pointer(path, manifest) == "/spec/template/spec/containers/0/image"
    full = await upstream.get_json(DEPLOYMENTS.path(namespace, "web"))
    assert owners(full["metadata"]["managedFields"], path) == ["kubectl-set"]
    assert owners(full["metadata"]["managedFields"], pointer(path, manifest), full) == ["kubectl-set"]

    await apply(upstream, DEPLOYMENTS, manifest, namespace)
    without = await after("set", "env", "deployment/web", "PLAIN-")
    assert [pointer(p, manifest) for p in uncovered(manifest, FieldSet.parse(without.owned))] == [
        "/spec/template/spec/containers/0/env/0"
    ]


async def test_the_order_of_env_is_restored_by_an_apply(upstream: ClusterClient, namespace: str) -> None:
    manifest = MANIFESTS[0]
    first, _ = await apply(upstream, DEPLOYMENTS, manifest, namespace)
    live = first.manifest()
    env = live["spec"]["template"]["spec"]["containers"][0]["env"]
    env.reverse()
    full = await upstream.get_json(DEPLOYMENTS.path(namespace, "web"))
    web, side = full["spec"]["template"]["spec"]["containers"]
    patch = {"spec": {"template": {"spec": {"containers": [{**web, "env": env}, side]}}}}
    turned = await upstream.patch(DEPLOYMENTS, namespace, "web", orjson.dumps(patch), MERGE_PATCH, manager="editor")
    assert turned.field("spec", "template", "spec", "containers", 0, "env") == env
    assert [path[-1] for path in differing(manifest, turned.manifest(), FieldSet.parse(first.owned))] == ["env"]
    healed, _ = await apply(upstream, DEPLOYMENTS, manifest, namespace)
    assert drifted(manifest, healed) == []


async def test_conflicts_name_path_and_manager(upstream: ClusterClient, namespace: str, kubectl: Kubectl) -> None:
    manifest = MANIFESTS[0]
    await apply(upstream, DEPLOYMENTS, manifest, namespace)
    await asyncio.to_thread(kubectl, "upstream", "-n", namespace, "set", "image", "deployment/web", "web=other:1")
    await asyncio.to_thread(
        kubectl, "upstream", "-n", namespace, "label", "deployment", "web", "app.kubernetes.io/name=x", "--overwrite"
    )
    body = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    with pytest.raises(Conflict) as caught:
        await upstream.apply(DEPLOYMENTS, namespace, "web", orjson.dumps(body), force=False)
    found = {(pointer(parse_field_text(c.field, manifest), manifest), c.manager) for c in caught.value.field_conflicts}
    assert found == {
        ("/spec/template/spec/containers/0/image", "kubectl-set"),
        ("/metadata/labels/app.kubernetes.io~1name", "kubectl-label"),
    }


async def test_schema_mismatches_are_terminal_and_say_where(upstream: ClusterClient, namespace: str) -> None:
    """B25."""
    manifest = orjson.loads(orjson.dumps(MANIFESTS[0]))
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["novel"] = 1
    with pytest.raises(SchemaMismatch) as caught:
        await apply(upstream, DEPLOYMENTS, manifest, namespace)
    assert (caught.value.problem, caught.value.status) == ("undeclared", 500)
    assert caught.value.pointer is not None
    assert (
        pointer(parse_field_text(caught.value.pointer, manifest), manifest) == "/spec/template/spec/containers/0/novel"
    )
    del container["novel"]
    container["env"].append({"name": "PLAIN", "value": "again"})
    with pytest.raises(SchemaMismatch) as caught:
        await apply(upstream, DEPLOYMENTS, manifest, namespace)
    assert (caught.value.problem, caught.value.duplicate_key) == ("duplicate", '[name="PLAIN"]')
    assert caught.value.pointer is not None
    assert pointer(parse_field_text(caught.value.pointer, manifest), manifest) == "/spec/template/spec/containers/0/env"


async def test_values_that_no_field_can_hold_are_terminal(upstream: ClusterClient, namespace: str) -> None:
    """What users mistype answers 500 in two ways; neither is worth a retry."""
    for limits, replicas in (({"cpu": "abc"}, 1), ({}, 1.5), ({}, "two")):
        manifest = orjson.loads(orjson.dumps(MANIFESTS[0]))
        manifest["spec"]["replicas"] = replicas
        manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] = limits
        with pytest.raises(SchemaMismatch) as caught:
            await apply(upstream, DEPLOYMENTS, manifest, namespace)
        assert caught.value.problem == "type"


async def test_an_object_above_a_limit_is_too_large(upstream: ClusterClient, namespace: str) -> None:
    """B07."""
    for size in (1_200_000, 4_000_000):
        with pytest.raises(TooLarge):
            await apply(upstream, CONFIGMAPS, configmap(a="x" * size), namespace)


async def test_a_secret_of_the_wrong_type_does_not_get_into_the_message(
    upstream: ClusterClient, namespace: str
) -> None:
    """P17."""
    secrets = ResourceInfo("", "v1", "secrets", "Secret", True)
    for data in ({"x": {"canary": "canary-5"}}, {"x": "not base64 canary-5!"}, {"bad key canary-5": "YQ=="}):
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data}
        with pytest.raises(TerminalError) as caught:
            await apply(upstream, secrets, body, namespace)
        if "bad key canary-5" not in data:
            assert "canary-5" not in str(caught.value)


async def test_immutable_fields_are_named(upstream: ClusterClient, namespace: str) -> None:
    """B15."""
    jobs = ResourceInfo("batch", "v1", "jobs", "Job", True, has_status=True)
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    await apply(upstream, jobs, job, namespace)
    pod["containers"] = [{"name": "c", "image": "other"}]
    with pytest.raises(Invalid) as caught:
        await apply(upstream, jobs, job, namespace)
    fixed = [cause.field for cause in caught.value.causes if "immutable" in cause.message]
    assert fixed
    assert fixed[0].startswith("spec.template")


async def test_deletes_hit_one_uid_only(upstream: ClusterClient, namespace: str) -> None:
    """P3."""
    created, _ = await apply(upstream, CONFIGMAPS, configmap(a="1"), namespace)
    with pytest.raises(Conflict):
        await upstream.delete(CONFIGMAPS, namespace, "c", uid=str(uuid.uuid4()))
    with pytest.raises(Conflict):
        await upstream.delete(CONFIGMAPS, namespace, "c", uid=created.uid, resource_version="1")
    await upstream.delete(CONFIGMAPS, namespace, "c", uid=created.uid)
    with pytest.raises(NotFound) as caught:
        await upstream.delete(CONFIGMAPS, namespace, "c", uid=created.uid)
    assert caught.value.kind_of_missing == "object"


async def test_what_is_missing_is_told_apart(upstream: ClusterClient, namespace: str) -> None:
    """B24."""
    widgets = ResourceInfo("example.com", "v1", "widgets", "Widget", True)
    with pytest.raises(NotFound) as no_object:
        await upstream.get(CONFIGMAPS, namespace, "none")
    with pytest.raises(NotFound) as no_namespace:
        await apply(upstream, CONFIGMAPS, configmap(), "no-such-namespace")
    with pytest.raises(NotFound) as no_resource:
        await upstream.get(widgets, namespace, "none")
    with pytest.raises(NotFound) as also_no_object:
        await upstream.get(NAMESPACES, "", "no-such-namespace")
    found = [e.value.kind_of_missing for e in (no_object, no_namespace, no_resource, also_no_object)]
    assert found == ["object", "namespace", "resource", "object"]
    await upstream.create(CONFIGMAPS, namespace, orjson.dumps(configmap("made")))
    with pytest.raises(AlreadyExists):
        await upstream.create(CONFIGMAPS, namespace, orjson.dumps(configmap("made")))


async def test_a_terminating_namespace_is_told_from_a_missing_right(
    upstream: ClusterClient, fleet: Fleet, kubectl: Kubectl
) -> None:
    name = f"ending-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    made = await upstream.create(NAMESPACES, "", orjson.dumps(body))
    keeper = configmap("keeper")
    keeper["metadata"]["finalizers"] = ["example.com/hold"]
    await apply(upstream, CONFIGMAPS, keeper, name)
    await upstream.delete(NAMESPACES, "", name, uid=made.uid)
    with pytest.raises(NamespaceTerminating):
        await apply(upstream, CONFIGMAPS, configmap("late"), name)
    await upstream.patch(CONFIGMAPS, name, "keeper", b'{"metadata":{"finalizers":null}}', MERGE_PATCH)
    nobody = ClusterClient(ClusterCredentials.from_kubeconfig(fleet.upstream.user("nobody")), name="upstream")
    with pytest.raises(Forbidden):
        await nobody.get(CONFIGMAPS, "default", "x")
    await nobody.close()


async def test_a_wrong_token_is_unauthorized(fleet: Fleet) -> None:
    admin = parse_kubeconfig(fleet.upstream.kubeconfig.read_bytes())
    access = Access(admin.server, ca=admin.ca, token=parse_token("wrong"))
    client = ClusterClient(ClusterCredentials(access), name="upstream")
    with pytest.raises(Unauthorized):
        await client.get_json("/api/v1/namespaces")
    await client.close()


def parse_token(text: str) -> Any:
    from syncer.kube.kubeconfig import Source

    return Source(text.encode())


async def test_discovery_says_the_same_in_both_forms(upstream: ClusterClient, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = Discovery(upstream), Discovery(upstream)
    assert await new.refresh()
    assert not await new.refresh()
    monkeypatch.setattr(discovery_module, "_AGGREGATED", "application/json")
    assert await old.refresh()
    assert {r.group_resource: r for r in new.resources()} == {r.group_resource: r for r in old.resources()}
    deployments = new.find("apps/v1", "Deployment")
    assert deployments is not None
    assert (deployments.has_status, deployments.has_scale) == (True, True)
    assert new.find("no.such.group", "Kind") is None
