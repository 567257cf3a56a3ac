"""Rendering against real API servers: downstream takes what upstream defaulted and ran, and nothing else travels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from syncer.api.keys import GroupKind
from syncer.api.names import SPEC_MANAGER
from syncer.kube.fields import FieldSet, differing, surplus, uncovered
from syncer.kube.objects import KubeObject, decode_object
from syncer.transform import (
    Rendered,
    Same,
    SourceRef,
    TargetView,
    is_ours,
    read_applied,
    read_mark,
    render,
    render_namespace,
    skip_reason,
)
from tests.support.fleet import Kubectl, wait_until
from tests.syncer.transform.builders import compiled
from tests.syncer.transform.kinds import cluster_scoped, configuration, custom, networking, workloads

HUB = "11111111-2222-3333-4444-555555555555"
EAST = TargetView("east", "east-uid", {"region": "eu"})
TRANSFORMS: tuple[dict[str, Any], ...] = (
    {"image": {"registry": "mirror.example"}},
    {"env": {"set": {"REGION": '${target.labels["region"]}'}, "remove": ["DEBUG"]}},
    {"resources": {"scale": "0.5"}, "kinds": ["Deployment"]},
    {"labels": {"set": {"tier": "${target.name}"}}},
    {"ingressHost": {"map": {"web.example": "web.${target.name}.example"}}},
)
# Fields of upstream servers and controllers: none of these may be ours downstream.
FOREIGN = {
    "f:uid",
    "f:ownerReferences",
    "f:finalizers",
    "f:managedFields",
    "f:generateName",
    "f:deployment.kubernetes.io/revision",
    "f:deprecated.daemonset.template.generation",
    "f:controller-uid",
    "f:batch.kubernetes.io/controller-uid",
    "f:batch.kubernetes.io/job-name",
    "f:kubectl.kubernetes.io/last-applied-configuration",
    "f:nodeName",
    "f:nodePort",
    "f:healthCheckNodePort",
    "f:volumeName",
    "f:ttlSecondsAfterFinished",
}


def source_of(observed: KubeObject) -> SourceRef:
    """The mark's content."""
    return SourceRef(
        HUB,
        "root",
        observed.api_version,
        observed.kind,
        observed.namespace,
        observed.name,
        observed.uid,
        observed.generation,
    )


def rendered(observed: KubeObject, *transforms: dict[str, Any], has_status: bool = True) -> Rendered:
    """As the engine renders it for east."""
    group, slash, _ = observed.api_version.partition("/")
    return render(
        observed.manifest(),
        kind=GroupKind(group if slash else "", observed.kind),
        has_status_subresource=has_status,
        pipeline=compiled(*transforms),
        target=EAST,
        source=source_of(observed),
        deletion_policy="Delete",
        mapping=Same(),
    )


def read(kubectl: Kubectl, cluster: str, manifests: list[dict[str, Any]], namespace: str) -> list[KubeObject]:
    """The objects as the cluster has them, managed fields included."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    told = kubectl(cluster, "get", "-n", namespace, "-f", "-", "-o", "json", "--show-managed-fields", stdin=items)
    return decoded(told)


def decoded(told: str) -> list[KubeObject]:
    """What kubectl printed: a list, or one object where there is only one."""
    answer = json.loads(told)
    return [decode_object(orjson.dumps(item)) for item in answer.get("items", [answer])]


def applied(kubectl: Kubectl, results: list[Rendered]) -> list[KubeObject]:
    """Server-side apply on east, strictly validated; the objects as the server answers them."""
    items = orjson.dumps({"apiVersion": "v1", "kind": "List", "items": [orjson.Fragment(r.body) for r in results]})
    arguments = ("--server-side", "--field-manager", SPEC_MANAGER, "--validate=strict", "--show-managed-fields")
    told = kubectl("east", "apply", *arguments, "-f", "-", "-o", "json", stdin=items.decode(), timeout_seconds=60)
    return decoded(told)


@pytest.fixture
def shared_namespace(kubectl: Kubectl, namespace: str) -> str:
    """The namespace on east too, made as the engine makes it."""
    upstream = decode_object(kubectl("upstream", "get", "namespace", namespace, "-o", "json").encode())
    result = render_namespace(
        upstream.manifest(), name=namespace, label_globs=[], source=source_of(upstream), deletion_policy="Delete"
    )
    arguments = ("--server-side", "--field-manager", SPEC_MANAGER)
    kubectl("east", "apply", *arguments, "-f", "-", stdin=result.body.decode())
    for cluster in ("upstream", "east"):
        wait_until(partial(kubectl.get, cluster, "serviceaccount", "default", namespace))
    return namespace


def check_applied(kubectl: Kubectl, results: list[Rendered], sources: list[KubeObject]) -> None:
    """Accepted, marked, owned as rendered, free of foreign fields; and a second apply changes nothing."""
    copies = applied(kubectl, results)
    for result, copy, source in zip(results, copies, sources, strict=True):
        where = f"{copy.kind}/{copy.name}"
        assert is_ours(copy, HUB), where
        assert read_mark(copy) == source_of(source), where
        assert read_applied(copy) == result.hash, where
        assert copy.owned is not None, where
        owned = FieldSet.parse(copy.owned)
        assert uncovered(result.manifest, owned) == [], where
        assert differing(result.manifest, copy.manifest(), owned) == [], where
        assert surplus(result.manifest, owned) == [], where
        assert not FOREIGN & _names(orjson.loads(copy.owned)), where
    # Controllers write too while they settle: what counts is that an apply in between changes nothing.
    versions = {id(result): copy.resource_version for result, copy in zip(results, copies, strict=True)}

    def unchanged() -> bool:
        pending = [result for result in results if id(result) in versions]
        for result, copy in zip(pending, applied(kubectl, pending), strict=True):
            if versions[id(result)] == copy.resource_version:
                del versions[id(result)]
            else:
                versions[id(result)] = copy.resource_version
        return not versions

    wait_until(unchanged, timeout_seconds=60)


def _names(fields: Any) -> set[str]:
    """Every name anywhere in a fieldsV1 tree."""
    names = set(fields)
    for inner in fields.values():
        names |= _names(inner)
    return names


def test_every_kind_is_accepted_downstream_and_a_second_apply_changes_nothing(
    kubectl: Kubectl, shared_namespace: str
) -> None:
    """B42, P5: one object of every kind, defaulted upstream, rendered with transforms, applied twice on east."""
    manifests = [*configuration(), *networking(), *workloads()]
    for manifest in manifests:
        manifest["metadata"]["namespace"] = shared_namespace
    kubectl.apply("upstream", *manifests)
    sources = read(kubectl, "upstream", manifests, shared_namespace)
    assert len(sources) == len(manifests)
    check_applied(kubectl, [rendered(source, *TRANSFORMS) for source in sources], sources)


@pytest.fixture
def definitions(kubectl: Kubectl, namespace: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Two custom kinds on upstream and east; yields an object of each, the first without status subresource."""
    group = f"{namespace}.example.com"
    plain, with_status = (
        custom(group, "plains", status_subresource=False),
        custom(group, "rich", status_subresource=True),
    )
    names = [definition["metadata"]["name"] for definition, _ in (plain, with_status)]
    for cluster in ("upstream", "east"):
        kubectl.apply(cluster, plain[0], with_status[0])
        kubectl(cluster, "wait", "--for=condition=Established", "crd", *names)
    yield plain[1], with_status[1]
    for cluster in ("upstream", "east"):
        kubectl(cluster, "delete", "crd", *names, "--wait=false")


def test_custom_objects_keep_their_status_only_where_it_is_plain_data(
    kubectl: Kubectl, shared_namespace: str, definitions: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    for manifest in definitions:
        manifest["metadata"]["namespace"] = shared_namespace
    kubectl.apply("upstream", *definitions)
    sources = read(kubectl, "upstream", list(definitions), shared_namespace)
    results = [rendered(sources[0], has_status=False), rendered(sources[1], has_status=True)]
    assert [result.manifest.get("status") for result in results] == [{"wish": 1}, None]
    assert [result.manifest["spec"] for result in results] == [{"color": "red", "size": 3}] * 2
    check_applied(kubectl, results, sources)


def test_cluster_scoped_objects_are_accepted_downstream(kubectl: Kubectl, namespace: str) -> None:
    manifests = cluster_scoped(namespace)
    try:
        kubectl.apply("upstream", *manifests)
        sources = read(kubectl, "upstream", manifests, "default")
        check_applied(kubectl, [rendered(source, *TRANSFORMS) for source in sources], sources)
    finally:
        for cluster in ("upstream", "east"):
            names = [f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests]
            kubectl(cluster, "delete", *names, "--wait=false", "--ignore-not-found")


def test_a_copy_outlives_the_garbage_collector_of_its_target(kubectl: Kubectl, shared_namespace: str) -> None:
    """F47, B14: the owner exists upstream only; a copy that named it would be collected, as the control is."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": shared_namespace}}
    kubectl.apply("upstream", owner)
    uid = read(kubectl, "upstream", [owner], shared_namespace)[0].uid
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"namespace": shared_namespace, "ownerReferences": [reference], "finalizers": ["example.com/guard"]}
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child", **metadata}}
    control = {**child, "metadata": {**metadata, "name": "control", "finalizers": []}}
    kubectl.apply("upstream", child)
    try:
        source = read(kubectl, "upstream", [child], shared_namespace)[0]
        assert skip_reason(source, GroupKind("", "ConfigMap")) is None
        check_applied(kubectl, [rendered(source)], [source])
        kubectl.apply("east", control)
        wait_until(lambda: kubectl.get("east", "configmap", "control", shared_namespace) is None, timeout_seconds=60)
        copy = kubectl.get("east", "configmap", "child", shared_namespace)
        assert copy is not None
        assert copy["metadata"].keys().isdisjoint({"ownerReferences", "finalizers", "deletionTimestamp"})
    finally:
        kubectl(
            "upstream",
            "patch",
            "configmap",
            "child",
            "-n",
            shared_namespace,
            "--type=merge",
            "-p",
            '{"metadata":{"finalizers":null}}',
        )


def test_what_every_cluster_has_of_its_own_is_skipped(kubectl: Kubectl, shared_namespace: str) -> None:
    """B19: the objects that a real control plane puts into a namespace, and a token asked for by hand."""
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": "by-hand",
            "namespace": shared_namespace,
            "annotations": {"kubernetes.io/service-account.name": "default"},
        },
    }
    kubectl.apply("east", token)
    for kind, name, where in (
        ("Secret", "by-hand", shared_namespace),
        ("ConfigMap", "kube-root-ca.crt", shared_namespace),
        ("ServiceAccount", "default", shared_namespace),
        ("Service", "kubernetes", "default"),
    ):
        found = wait_until(partial(kubectl.get, "east", kind, name, where))
        assert skip_reason(decode_object(orjson.dumps(found)), GroupKind("", kind)) is not None, (kind, name)
