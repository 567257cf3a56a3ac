"""Objects of our kinds that are refused, and where. One table for the API server and for the pure rules."""

from __future__ import annotations

from typing import Any, NamedTuple

LONG = "a" * 254
CONFIGMAPS = {"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}


class Refused(NamedTuple):
    """One manifest, the path that its refusal names, and a part of the message of the API server."""

    title: str
    manifest: dict[str, Any]
    path: str
    says: str


def placement(name: str = "web", namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    """A Placement that is fine, with these fields of its spec replaced."""
    whole = {"resources": [CONFIGMAPS], "targets": {"names": ["east"]}} | spec
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "syncline.io/v1alpha1", "kind": "Placement", "metadata": metadata, "spec": whole}


def cluster_placement(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A ClusterPlacement that is fine, with these fields of its spec replaced."""
    whole = placement(namespaces={"names": ["team-*"]}, **spec)["spec"] if "namespaces" not in spec else spec
    whole = {"resources": [CONFIGMAPS], "targets": {"names": ["east"]}} | whole
    manifest = {"apiVersion": "syncline.io/v1alpha1", "kind": "ClusterPlacement", "metadata": {"name": name}}
    return manifest | {"spec": whole}


def sync_target(name: str = "east", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A SyncTarget that is fine, with these fields of its spec replaced."""
    metadata = {"name": name, "labels": labels or {}}
    whole = {"connection": {"direct": {}}} | spec
    return {"apiVersion": "syncline.io/v1alpha1", "kind": "SyncTarget", "metadata": metadata, "spec": whole}


def holding(*manifests: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A Placement that is fine but for what it holds inline."""
    return placement(resources=[], manifests=list(manifests), **spec)


def _selecting(**selector: Any) -> dict[str, Any]:
    return placement(resources=[{"apiVersion": "v1", "kind": "ConfigMap"} | selector])


def _labelled(**selector: Any) -> dict[str, Any]:
    return _selecting(labelSelector=selector)


def _transformed(**transform: Any) -> dict[str, Any]:
    return placement(transforms=[transform])


_ENTRY = "spec.resources[0]"
_LABELS = "spec.resources[0].labelSelector"
_TERM = f"{_LABELS}.matchExpressions[0]"
_STEP = "spec.transforms[0]"

EMPTY_SELECTORS = [
    Refused("an entry without names and labels", _selecting(), _ENTRY, "say names or labelSelector"),
    Refused("an entry with an empty list of names", _selecting(names=[]), _ENTRY, "say names or labelSelector"),
    Refused("an empty label selector", _labelled(), _LABELS, "an empty label selector selects nothing"),
    Refused("no entry at all", placement(resources=[]), "spec.resources", "say what is placed"),
    Refused(
        "an exclude entry without selector",
        placement(exclude=[{"apiVersion": "v1", "kind": "Pod"}]),
        "spec.exclude[0]",
        "say",
    ),
    Refused("empty targets", placement(targets={}), "spec.targets", "say names, labelSelector or all: true"),
    Refused("empty target labels", placement(targets={"labelSelector": {}}), "spec.targets.labelSelector", "empty"),
    Refused(
        "all beside names", placement(targets={"all": True, "names": ["east"]}), "spec.targets.all", "stands alone"
    ),
    Refused("an empty target filter", _transformed(replicas=1, targets={}), f"{_STEP}.targets", "name targets"),
    Refused(
        "empty namespaces", cluster_placement(namespaces={}), "spec.namespaces", 'names: ["*"] means every namespace'
    ),
]

BAD_SELECTORS = [
    Refused(
        "an unknown operator",
        _labelled(matchExpressions=[{"key": "a", "operator": "in", "values": ["x"]}]),
        f"{_TERM}.operator",
        "supported values",
    ),
    Refused(
        "In without values",
        _labelled(matchExpressions=[{"key": "a", "operator": "In"}]),
        f"{_TERM}.values",
        "need values",
    ),
    Refused(
        "Exists with values",
        _labelled(matchExpressions=[{"key": "a", "operator": "Exists", "values": ["x"]}]),
        f"{_TERM}.values",
        "take none",
    ),
    Refused(
        "a key with a space",
        _labelled(matchExpressions=[{"key": "a b", "operator": "Exists"}]),
        f"{_TERM}.key",
        "should match",
    ),
    Refused(
        "a label key with a space", _labelled(matchLabels={"a b": "x"}), f"{_LABELS}.matchLabels", "keys must match"
    ),
    Refused(
        "a label value with a space", _labelled(matchLabels={"a": "x y"}), f"{_LABELS}.matchLabels.a", "should match"
    ),
    Refused("a label value of 64 characters", _labelled(matchLabels={"a": "x" * 64}), f"{_LABELS}.matchLabels.a", "63"),
    Refused(
        "an apiVersion with two slashes",
        placement(resources=[CONFIGMAPS | {"apiVersion": "a/b/c"}]),
        f"{_ENTRY}.apiVersion",
        "should match",
    ),
    Refused(
        "a kind with a dot",
        placement(resources=[CONFIGMAPS | {"kind": "Config.Map"}]),
        f"{_ENTRY}.kind",
        "should match",
    ),
    Refused("an empty name", _selecting(names=[""]), f"{_ENTRY}.names[0]", "at least 1"),
]

BAD_TARGET_NAMES = ["East", "..", "a..b", "a/b", "a:b", "ü", "-a", "", "a" * 41, LONG]

TRANSFORMS = [
    Refused("two operations", _transformed(replicas=1, image={"tag": "x"}), _STEP, "one and only one schema"),
    Refused("no operation", _transformed(kinds=["Deployment"]), _STEP, "one and only one schema"),
    Refused(
        "a merge patch beside an image", _transformed(mergePatch={}, image={"tag": "x"}), _STEP, "one and only one"
    ),
    Refused("an image without a part", _transformed(image={}), f"{_STEP}.image", "at least one of registry"),
    Refused("a tag with a space", _transformed(image={"tag": "a b"}), f"{_STEP}.image.tag", "should match"),
    Refused("resources without an amount", _transformed(resources={}), f"{_STEP}.resources", "at least one of set"),
    Refused("a scale in words", _transformed(resources={"scale": "half"}), f"{_STEP}.resources.scale", "should match"),
    Refused("a variable with =", _transformed(env={"set": {"a=b": "x"}}), f"{_STEP}.env.set", "keys must match"),
    Refused("replicas below zero", _transformed(replicas=-1), f"{_STEP}.replicas", "greater than or equal to 0"),
    Refused("a pointer without slash", _transformed(remove=["spec"]), f"{_STEP}.remove[0]", "should match"),
    Refused("nothing to remove", _transformed(remove=[]), f"{_STEP}.remove", "at least 1"),
    Refused(
        "move without from",
        _transformed(jsonPatch=[{"op": "move", "path": "/spec/x"}]),
        f"{_STEP}.jsonPatch[0].from",
        "need from",
    ),
    Refused(
        "an unknown patch operation",
        _transformed(jsonPatch=[{"op": "merge", "path": "/spec/x"}]),
        f"{_STEP}.jsonPatch[0].op",
        "supported values",
    ),
    Refused(
        "a key-less Equal toleration",
        _transformed(tolerations={"add": [{"value": "x"}]}),
        f"{_STEP}.tolerations.add[0].operator",
        "needs operator Exists",
    ),
    Refused(
        "Exists with a value",
        _transformed(tolerations={"add": [{"key": "a", "operator": "Exists", "value": "x"}]}),
        f"{_STEP}.tolerations.add[0].value",
        "takes no value",
    ),
    Refused(
        "an empty storage class map", _transformed(storageClass={"map": {}}), f"{_STEP}.storageClass.map", "at least 1"
    ),
    Refused("65 transforms", placement(transforms=[{"replicas": 1}] * 65), "spec.transforms", "64"),
]

VALUELESS = [_transformed(jsonPatch=[{"op": op, "path": "/spec/x"}]) for op in ("add", "replace", "test")]

DIVIDE = {"mode": "Divide", "weights": {"static": {"east": 2}}}
OTHERS = [
    Refused(
        "weights without Divide",
        placement(replicas={"weights": {"static": {"east": 1}}}),
        "spec.replicas.weights",
        "belong to mode Divide",
    ),
    Refused(
        "a weight below zero",
        placement(replicas={"mode": "Divide", "weights": {"static": {"east": -1}}}),
        "spec.replicas.weights.static.east",
        "greater than or equal to 0",
    ),
    Refused(
        "Divide with a replicas transform",
        placement(replicas=DIVIDE, transforms=[{"replicas": 2}]),
        "spec.transforms",
        "cannot be combined",
    ),
    Refused("Single without target", placement(status={"mode": "Single"}), "spec.status.target", "needs target"),
    Refused("Sum with a target", placement(status={"target": "east"}), "spec.status.target", "take none"),
    Refused("an unknown drift mode", placement(drift={"mode": "Fix"}), "spec.drift.mode", "supported values"),
    Refused(
        "an unknown conflict mode",
        placement(conflict={"existing": "Fight"}),
        "spec.conflict.existing",
        "supported values",
    ),
    Refused(
        "no targets taken",
        placement(targets={"names": ["east"], "maxTargets": 0}),
        "spec.targets.maxTargets",
        "greater than or equal to 1",
    ),
    Refused("no connection", sync_target(connection={}), "spec.connection", "exactly one of direct, tunnel"),
    Refused("a duration in words", sync_target(evictAfter="soon"), "spec.evictAfter", "should match"),
    Refused("no requests at all", sync_target(limits={"qps": 0}), "spec.limits.qps", "greater than or equal to 1"),
    Refused(
        "a taint of nodes",
        sync_target(taints=[{"key": "a", "effect": "PreferNoSchedule"}]),
        "spec.taints[0].effect",
        "supported values",
    ),
    Refused(
        "a kind for a resource",
        sync_target(resources={"allow": ["Deployment.apps"]}),
        "spec.resources.allow[0]",
        "should match",
    ),
    Refused(
        "an unknown preset", sync_target(resources={"preset": "Some"}), "spec.resources.preset", "supported values"
    ),
]

_HELD = "spec.manifests[0]"
MANIFESTS = [
    Refused(
        "an inline object without kind",
        holding({"apiVersion": "v1", "metadata": {"name": "a"}}),
        f"{_HELD}.kind",
        "Required",
    ),
    Refused(
        "an inline object without apiVersion",
        holding({"kind": "ConfigMap", "metadata": {"name": "a"}}),
        f"{_HELD}.apiVersion",
        "Required",
    ),
    Refused(
        "an inline object without metadata",
        holding({"apiVersion": "v1", "kind": "ConfigMap"}),
        f"{_HELD}.metadata",
        "Required",
    ),
    Refused(
        "an inline object without name",
        holding({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}}),
        f"{_HELD}.metadata.name",
        "Required",
    ),
    Refused(
        "an inline object of any kind",
        holding({"apiVersion": "v1", "kind": "*", "metadata": {"name": "a"}}),
        f"{_HELD}.kind",
        "should match",
    ),
    Refused(
        "more inline objects than allowed",
        holding(*({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"a{n}"}} for n in range(65))),
        "spec.manifests",
        "at most 64",
    ),
]

LATER = [
    ("spec.targets.spread", placement(targets={"all": True, "spread": [{"topologyKey": "region"}]})),
    ("spec.replicas.weights.by", placement(replicas={"mode": "Divide", "weights": {"by": "Allocatable"}})),
    ("spec.conflict.fields", placement(conflict={"fields": "Manual"})),
    ("spec.deletion.offline", placement(deletion={"offline": "Detach"})),
    ("spec.rollout.strategy", placement(rollout={"strategy": "Waves"})),
    ("spec.rollout.strategy", placement(rollout={"strategy": "Atomic"})),
    ("spec.dependencies", placement(dependencies=True)),
    ("spec.upsync", placement(upsync=[CONFIGMAPS])),
    ("spec.upsync", cluster_placement(upsync=[CONFIGMAPS])),
    ("spec.namespaceMapping", sync_target(namespaceMapping="Hashed")),
]

REFUSED = [
    *EMPTY_SELECTORS,
    *BAD_SELECTORS,
    *TRANSFORMS,
    *OTHERS,
    *MANIFESTS,
    *(
        Refused(
            f"target name {name[:50]!r}",
            placement(targets={"names": [name]}),
            "spec.targets.names[0]",
            "spec.targets.names[0]",
        )
        for name in BAD_TARGET_NAMES
    ),
    *(Refused(f"later: {path}", manifest, path, f"NotYetSupported: {path}") for path, manifest in LATER),
]
