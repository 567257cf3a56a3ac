"""What a placement may hold inline."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.names import Reason
from syncer.api.placement import MAX_INLINE_BYTES, Placement
from syncer.api.synctarget import SyncTarget
from syncer.webhooks.access import placement_questions
from syncer.webhooks.findings import Context, Finding
from syncer.webhooks.rules import check
from tests.syncer.api.cases import CONFIGMAPS, cluster_placement, holding, placement, sync_target

EAST = SyncTarget.parse(sync_target("east"))
KNOWN = Context(targets={"east": EAST})


def config_map(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"k": "1"}}


def _of(kind: str, api_version: str = "v1", name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}}


def _errors(manifest: dict[str, Any], context: Context = KNOWN) -> list[Finding]:
    return [finding for finding in check(manifest, context) if finding.severity == "error"]


def _holding_cluster(*manifests: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return cluster_placement(resources=[], manifests=list(manifests), namespaces=None, **spec)


def test_what_is_written_for_kubectl_apply_may_be_held() -> None:
    widget = _of("Widget", "example.com/v1")  # only targets may serve it
    assert check(holding(config_map(), config_map("b", namespace="shop"), widget), KNOWN) == []
    assert check(_holding_cluster(config_map(namespace="shop")), KNOWN) == []


@pytest.mark.parametrize(
    ("manifest", "path", "says", "reason"),
    [
        (holding(config_map(namespace="other")), "metadata.namespace", "only its own namespace shop", Reason.FORBIDDEN),
        (holding(_of("PersistentVolume")), "kind", "is cluster-scoped", Reason.FORBIDDEN),
        (holding(_of("RoleBinding", "rbac.authorization.k8s.io/v1")), "kind", "denied-kinds", Reason.RESOURCE_DENIED),
        (holding(_of("SyncTarget", "syncline.io/v1alpha1")), "kind", "stay upstream", Reason.RESOURCE_DENIED),
        (holding(_of("List")), "kind", "each of its items", Reason.INVALID),
        (_holding_cluster(config_map()), "metadata.namespace", "say the namespace", Reason.INVALID),
        (_holding_cluster(_of("PersistentVolume", namespace="x")), "metadata.namespace", "leave", Reason.INVALID),
        (_holding_cluster(config_map(namespace="kube-system")), "metadata", "protected", Reason.PROTECTED_NAMESPACE),
        (holding(config_map(labels={"syncline.io/skip": "true"})), "", "never placed", Reason.INVALID),
        (holding(config_map("kube-root-ca.crt")), "", "every cluster writes its own", Reason.INVALID),
        (
            holding(
                _of("Pod", ownerReferences=[{"kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}])
            ),
            "",
            "it is controlled by ReplicaSet web",
            Reason.INVALID,
        ),
        (holding(config_map(ownerReferences="SECRET")), "metadata", "not an object", Reason.INVALID),
        (holding(config_map(), exclude=[CONFIGMAPS]), "", "spec.exclude[0] leaves it out", Reason.INVALID),
    ],
)
def test_what_never_travels_may_not_be_held(manifest: dict[str, Any], path: str, says: str, reason: Reason) -> None:
    (finding,) = _errors(manifest)
    assert finding.path == ".".join(filter(None, ("spec.manifests[0]", path)))
    assert says in finding.message
    assert "SECRET" not in finding.message
    assert finding.reason == reason


def test_a_denied_kind_may_be_held_where_a_target_opened_it() -> None:
    opened = SyncTarget.parse(sync_target("east", resources={"allow": ["roles.rbac.authorization.k8s.io"]}))
    role = holding(_of("Role", "rbac.authorization.k8s.io/v1"))
    assert _errors(role, Context(targets={"east": opened})) == []


def test_one_object_stands_once_in_a_placement_whatever_its_version() -> None:
    twice = holding(_of("Widget", "example.com/v1"), config_map(), _of("Widget", "example.com/v2", namespace="shop"))
    (finding,) = _errors(twice)
    assert str(finding) == "spec.manifests[2]: is the same object as spec.manifests[0]; remove one of them"


def test_the_size_of_all_together_is_limited() -> None:
    big = [{**config_map(f"a{n}"), "data": {"k": "x" * (MAX_INLINE_BYTES // 2)}} for n in range(2)]
    (finding,) = _errors(holding(*big))
    assert finding.path == "spec.manifests"
    assert "at most 1,048,576" in finding.message
    assert _errors(holding(big[0])) == []


def test_waiting_deletion_has_nothing_to_hold_back() -> None:
    (finding,) = _errors(holding(config_map(), deletion={"wait": True}))
    assert finding.path == "spec.deletion.wait"
    assert _errors(placement(deletion={"wait": True})) == []


def test_a_job_that_would_expire_is_warned_of() -> None:
    job = {**_of("Job", "batch/v1"), "spec": {"ttlSecondsAfterFinished": 5}}
    (warning,) = check(holding(job), KNOWN)
    assert (warning.severity, warning.path) == ("warning", "spec.manifests[0].spec.ttlSecondsAfterFinished")


def test_another_placement_that_gives_the_same_object_is_warned_of() -> None:
    other = Placement.parse(placement("other"))
    (warning,) = check(holding(config_map()), Context(targets={"east": EAST}, placements=[other]))
    assert str(warning).startswith("spec.manifests[0]: overlaps spec.resources[0] of Placement shop/other")


def test_who_holds_an_object_must_be_allowed_to_create_it() -> None:
    """Else a right on placements would be a right on every kind."""
    model = Placement.parse(holding(config_map(), config_map("b"), _of("Secret")))
    assert [str(question) for question in placement_questions(model, Context())] == [
        "use synctargets.syncline.io/east",
        "create configmaps in namespace shop",
        "create secrets in namespace shop",
    ]
