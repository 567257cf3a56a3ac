"""The pure rules, on the same table as the API server."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.names import Reason
from syncer.api.placement import AnyPlacement, ClusterPlacement, Placement
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from syncer.webhooks.findings import Context, Finding
from syncer.webhooks.rules import check, require_valid
from tests.syncer.api.cases import (
    CONFIGMAPS,
    DIVIDE,
    REFUSED,
    VALUELESS,
    Refused,
    cluster_placement,
    placement,
    sync_target,
)

EAST = SyncTarget.parse(sync_target("east"))
KNOWN = Context(targets={"east": EAST})


def _errors(manifest: dict[str, Any], context: Context = KNOWN) -> list[Finding]:
    return [finding for finding in check(manifest, context) if finding.severity == "error"]


def _warnings(manifest: dict[str, Any], context: Context = KNOWN) -> list[Finding]:
    return [finding for finding in check(manifest, context) if finding.severity == "warning"]


def _selecting(api_version: str, kind: str, **more: Any) -> list[dict[str, Any]]:
    return [{"apiVersion": api_version, "kind": kind, "names": ["*"]} | more]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.title)
def test_what_the_api_server_refuses_the_rules_refuse_at_the_same_path(case: Refused) -> None:
    """B03, B04, B05: so `--webhooks off` and an old CRD change nothing."""
    assert case.path in [finding.path for finding in _errors(case.manifest)]


@pytest.mark.parametrize("manifest", VALUELESS, ids=("add", "replace", "test"))
def test_a_patch_operation_without_value_is_an_error(manifest: dict[str, Any]) -> None:
    """B11"""
    (finding,) = _errors(manifest)
    assert finding.path.startswith("spec.transforms[0].jsonPatch[0]")
    assert finding.code == 422


@pytest.mark.parametrize("manifest", [placement(), cluster_placement(), sync_target()], ids=lambda m: m["kind"])
def test_a_good_object_has_no_findings(manifest: dict[str, Any]) -> None:
    assert check(manifest, KNOWN) == []


def test_an_unknown_field_is_named_by_its_path() -> None:
    """B01"""
    (finding,) = _errors(placement(resources=[CONFIGMAPS | {"label": "x"}]))
    assert str(finding) == "spec.resources[0].label: unknown field"


def test_a_missing_target_warns_and_passes() -> None:
    """B02"""
    manifest = placement(targets={"names": ["east", "wset"]})
    assert _errors(manifest) == []
    (warning,) = _warnings(manifest)
    assert str(warning) == "spec.targets.names[1]: TargetNotFound: wset"


def _patch(op: str, path: str, **more: Any) -> dict[str, Any]:
    return {"jsonPatch": [{"op": "remove", "path": "/spec/paused"}, {"op": op, "path": path} | more]}


@pytest.mark.parametrize(
    ("transform", "path", "says"),
    [
        (_patch("replace", "/metadata/name", value="x"), "jsonPatch[1]", "/metadata/name"),
        (_patch("remove", "/kind"), "jsonPatch[1]", "/kind"),
        (_patch("move", "/spec/x", **{"from": "/metadata/namespace"}), "jsonPatch[1]", "/metadata/namespace"),
        (_patch("add", "/metadata/finalizers/-", value="x"), "jsonPatch[1]", "/metadata/finalizers"),
        (_patch("add", "/metadata", value={}), "jsonPatch[1]", "/metadata"),
        (_patch("move", "/spec/a/b", **{"from": "/spec/a"}), "jsonPatch[1]", "into itself"),
        ({"mergePatch": {"metadata": {"ownerReferences": []}}}, "mergePatch", "/metadata/ownerReferences"),
        ({"mergePatch": {"apiVersion": "v2"}}, "mergePatch", "/apiVersion"),
        ({"mergePatch": "metadata: {uid: x}"}, "mergePatch", "/metadata/uid"),
        ({"mergePatch": "a: [b"}, "mergePatch", "YAML"),
        ({"mergePatch": "text"}, "mergePatch", ""),
        ({"mergePatch": 5}, "mergePatch", "a mapping"),
        ({"remove": ["/spec/paused", "/metadata/uid"]}, "remove[1]", "/metadata/uid"),
        ({"cel": {"path": "/metadata/name", "expression": "'x'"}}, "cel.path", "/metadata/name"),
        ({"cel": {"path": "/spec/x", "expression": "object.spec."}}, "cel.expression", "Syntax error"),
        ({"env": {"set": {"A": "${target.colour}"}}}, "env.set.A", "${target."),
    ],
)
def test_a_transform_that_is_invalid_or_touches_identity_is_named(
    transform: dict[str, Any], path: str, says: str
) -> None:
    """B11: 422 with index and path."""
    (finding,) = _errors(placement(transforms=[{"labels": {"set": {"a": "b"}}}, transform]))
    assert finding.path == f"spec.transforms[1].{path}"
    assert says in finding.message
    assert finding.code == 422


def test_every_bad_transform_is_told_at_once() -> None:
    bad = {"remove": ["/metadata/uid"]}
    paths = [finding.path for finding in _errors(placement(transforms=[bad, {"remove": ["/spec/x"]}, bad]))]
    assert paths == ["spec.transforms[0].remove[0]", "spec.transforms[2].remove[0]"]


@pytest.mark.parametrize(
    "transform",
    [
        {"jsonPatch": [{"op": "replace", "path": "/spec/replicas", "value": 2}]},
        {"mergePatch": {"spec": {"replicas": 2}}},
        {"remove": ["/spec"]},
        {"cel": {"path": "/spec/replicas", "expression": "2"}},
    ],
)
def test_a_divided_placement_keeps_its_replicas_from_free_transforms(transform: dict[str, Any]) -> None:
    (finding,) = _errors(placement(replicas=DIVIDE, transforms=[transform]))
    assert "/spec/replicas is divided" in finding.message
    assert _errors(placement(transforms=[transform])) == []


@pytest.mark.parametrize("kind", [("v1", "PersistentVolume"), ("storage.k8s.io/v1", "StorageClass")])
def test_a_cluster_scoped_kind_is_forbidden_in_a_placement(kind: tuple[str, str]) -> None:
    """B17: 403, with what to use instead."""
    (finding,) = _errors(placement(resources=_selecting(*kind)))
    assert finding.code == 403
    assert finding.path == "spec.resources[0].kind"
    assert "use a ClusterPlacement" in finding.message
    assert _errors(cluster_placement(resources=_selecting(*kind))) == []


def test_a_namespaced_kind_in_a_cluster_placement_needs_namespaces() -> None:
    manifest = cluster_placement()
    del manifest["spec"]["namespaces"]
    (finding,) = _errors(manifest)
    assert finding.path == "spec.namespaces"


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("v1", "Node"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("syncline.io/v1alpha1", "Placement"),
    ],
)
def test_kinds_that_give_rights_over_a_cluster_are_forbidden(api_version: str, kind: str) -> None:
    """B18: 403 naming the policy, in both kinds of placement."""
    for manifest in (placement(), cluster_placement()):
        manifest["spec"]["resources"] = _selecting(api_version, kind)
        (finding,) = _errors(manifest)
        assert finding.code == 403
        assert "policy denied-kinds forbids" in finding.message
        assert "spec.resources.allow" in finding.message


def test_a_target_that_allows_a_denied_kind_by_name_opens_it() -> None:
    allowing = SyncTarget.parse(sync_target("west", resources={"allow": ["roles.rbac.authorization.k8s.io"]}))
    manifest = placement(resources=_selecting("rbac.authorization.k8s.io/v1", "Role"))
    assert _errors(manifest, Context(targets={"east": EAST, "west": allowing})) == []
    pattern = SyncTarget.parse(sync_target("west", resources={"allow": ["*.rbac.authorization.k8s.io"]}))
    assert _errors(manifest, Context(targets={"east": EAST, "west": pattern}))


def test_a_kind_that_nobody_serves_warns_with_a_guess() -> None:
    """A typo in a kind says what was meant."""
    (warning,) = _warnings(placement(resources=_selecting("apps/v1", "Deploymnet")))
    assert warning.reason == Reason.API_MISSING
    assert "did you mean Deployment?" in warning.message


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "syncline-system"])
def test_protected_namespaces_are_refused(namespace: str) -> None:
    """B20"""
    (finding,) = _errors(placement(namespace=namespace))
    assert (finding.path, finding.code) == ("metadata.namespace", 422)
    (finding,) = _errors(cluster_placement(namespaces={"names": ["team-*", namespace]}))
    assert (finding.path, finding.code) == ("spec.namespaces.names[1]", 422)


def test_the_default_namespace_may_be_used() -> None:
    """B20"""
    assert _errors(placement(namespace="default")) == []


def test_a_target_that_is_the_upstream_itself_is_a_cycle() -> None:
    """B23: named with both ends."""
    itself = SyncTarget.parse(sync_target("east") | {"status": {"clusterUID": "hub-1"}})
    context = Context(targets={"east": itself}, hub_id="hub-1")
    (finding,) = _errors(placement(), context)
    assert "cycle: upstream hub-1 → target east → upstream hub-1" in finding.message


def test_an_overlap_of_equal_priority_warns() -> None:
    other = Placement.parse(placement("api", resources=[CONFIGMAPS | {"names": ["web-*"]}]))
    context = Context(targets={"east": EAST}, placements=[other])
    manifest = placement(resources=[CONFIGMAPS | {"names": ["*-config"]}])
    (warning,) = _warnings(manifest, context)
    assert str(warning).startswith("spec.resources[0]: overlaps spec.resources[0] of Placement shop/api")
    assert _warnings(placement(resources=[CONFIGMAPS | {"names": ["api-*"]}]), context) == []
    assert _warnings(manifest | {"spec": manifest["spec"] | {"conflict": {"priority": 1}}}, context) == []


def test_many_overlaps_are_a_few_warnings() -> None:
    others = [Placement.parse(placement(f"other-{index}")) for index in range(20)]
    assert len(_warnings(placement(), Context(targets={"east": EAST}, placements=others))) == 5


def test_a_placement_does_not_overlap_itself() -> None:
    context = Context(targets={"east": EAST}, placements=[Placement.parse(placement())])
    assert _warnings(placement(), context) == []


def test_placements_of_other_namespaces_targets_and_labels_do_not_overlap() -> None:
    spec = placement()["spec"]
    apart: list[AnyPlacement] = [
        Placement.parse(placement("api", namespace="other")),
        Placement.parse(placement("api", targets={"names": ["west"]})),
        Placement.parse(placement("api", resources=_selecting("v1", "Secret"))),
        ClusterPlacement.parse(cluster_placement("api", namespaces={"names": ["team-*"]}, **spec)),
    ]
    assert _warnings(placement(), Context(targets={"east": EAST}, placements=apart)) == []
    meets = ClusterPlacement.parse(cluster_placement("api", namespaces={"names": ["sh?p"]}, **spec))
    assert len(_warnings(placement(), Context(targets={"east": EAST}, placements=[meets]))) == 1


def test_at_reconcile_every_error_is_in_one_refusal() -> None:
    """`--webhooks off`: the same rules, as the condition's reason and message."""
    bad = placement(
        resources=_selecting("v1", "PersistentVolume"),
        transforms=[{"remove": ["/kind"]}],
        targets={"names": ["nowhere"]},
    )
    with pytest.raises(TerminalError) as caught:
        require_valid(Placement.parse(bad), KNOWN)
    assert caught.value.reason == Reason.FORBIDDEN
    assert caught.value.pointer == "spec.resources[0].kind"
    assert "spec.transforms[0].remove[0]" in str(caught.value)
    require_valid(Placement.parse(placement(targets={"names": ["nowhere"]})), KNOWN)
    require_valid(EAST, KNOWN)
