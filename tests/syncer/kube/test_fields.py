"""Set algebra over managed fields, on examples taken from kube-apiserver 1.36 and on generated objects."""

from __future__ import annotations

import copy
import random
from typing import Any

import orjson
import pytest

from syncer.kube.fields import (
    FieldSet,
    ListKey,
    ListValue,
    Path,
    Position,
    differing,
    digest,
    owners,
    parse_field_text,
    pointer,
    surplus,
    uncovered,
)

NAME = {"name": "web"}
WEB = ListKey("k", (("name", "web"),))
CONTAINERS: Path = ("spec", "template", "spec", "containers")

# Applied to, and answered by, a real server: what a manifest says, what the server made of it, what we own then.
MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "empty": ""}, "annotations": {}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "imagePullSecrets": [{"name": "x"}],
                "hostNetwork": False,
                "securityContext": {},
                "nodeSelector": None,
                "tolerations": [],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [
                    {
                        "name": "web",
                        "image": "x",
                        "env": [
                            {"name": "A", "value": "1"},
                            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        ],
                        "ports": [
                            {"containerPort": 80},
                            {"containerPort": 53, "protocol": "UDP"},
                            {"containerPort": 53},
                        ],
                        "resources": {"limits": {"cpu": "1000m"}, "requests": {}},
                    }
                ],
            },
        },
    },
}
OWNED_TREE: dict[str, Any] = {
    "f:metadata": {"f:annotations": {}, "f:labels": {"f:app": {}, "f:empty": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:strategy": {},
        "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {
                "f:containers": {
                    'k:{"name":"web"}': {
                        ".": {},
                        "f:env": {
                            'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}},
                            'k:{"name":"B"}': {".": {}, "f:name": {}, "f:valueFrom": {"f:fieldRef": {}}},
                        },
                        "f:image": {},
                        "f:name": {},
                        "f:ports": {
                            'k:{"containerPort":53,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
                            'k:{"containerPort":53,"protocol":"UDP"}': {
                                ".": {},
                                "f:containerPort": {},
                                "f:protocol": {},
                            },
                            'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
                        },
                        "f:resources": {"f:limits": {"f:cpu": {}}, "f:requests": {}},
                    }
                },
                "f:hostNetwork": {},
                "f:imagePullSecrets": {'k:{"name":"x"}': {}},
                "f:nodeSelector": {},
                "f:securityContext": {},
                "f:tolerations": {},
                "f:volumes": {'k:{"name":"v"}': {".": {}, "f:emptyDir": {}, "f:name": {}}},
            },
        },
    },
}
OWNED = orjson.dumps(OWNED_TREE)
LIVE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"app": "web", "empty": ""}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [
                    {
                        "name": "web",
                        "image": "x",
                        "ports": [
                            {"containerPort": 80, "protocol": "TCP"},
                            {"containerPort": 53, "protocol": "UDP"},
                            {"containerPort": 53, "protocol": "TCP"},
                        ],
                        "env": [
                            {"name": "A", "value": "1"},
                            {
                                "name": "B",
                                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
                            },
                        ],
                        "resources": {"limits": {"cpu": "1"}},
                        "imagePullPolicy": "Always",
                    }
                ],
                "securityContext": {},
                "imagePullSecrets": [{"name": "x"}],
            },
        },
    },
    "status": {},
}


def fields(tree: dict[str, Any]) -> FieldSet:
    return FieldSet.parse(orjson.dumps(tree))


def edited(base: dict[str, Any], edit: Any) -> dict[str, Any]:
    result = copy.deepcopy(base)
    edit(result)
    return result


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def owned_container(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tree["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    return found


def test_what_was_applied_is_covered_after_server_defaulting() -> None:
    owned = FieldSet.parse(OWNED)
    assert uncovered(MANIFEST, owned) == []
    assert surplus(MANIFEST, owned) == []
    assert differing(MANIFEST, LIVE, owned) == []


def test_nothing_is_covered_while_nothing_is_owned() -> None:
    assert ("spec", "replicas") in uncovered(MANIFEST, FieldSet.parse(None))
    assert surplus(MANIFEST, FieldSet.parse(None)) == []


def test_identity_is_not_counted() -> None:
    identity = {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "a", "namespace": "b", "uid": "c", "resourceVersion": "1"},
    }
    assert uncovered(identity, FieldSet.parse(b"{}")) == []


@pytest.mark.parametrize(
    ("lost", "path"),
    [
        (lambda t: t["f:spec"].pop("f:replicas"), ("spec", "replicas")),
        (lambda t: t["f:metadata"]["f:labels"].pop("f:empty"), ("metadata", "labels", "empty")),
        (lambda t: owned_container(t).pop("f:image"), (*CONTAINERS, WEB, "image")),
        (
            lambda t: owned_container(t)["f:env"]['k:{"name":"A"}'].pop("f:value"),
            (*CONTAINERS, WEB, "env", ListKey("k", (("name", "A"),)), "value"),
        ),
        (lambda t: owned_container(t)["f:env"].pop('k:{"name":"A"}'), (*CONTAINERS, WEB, "env", Position("i", 0))),
        (
            lambda t: owned_container(t)["f:ports"].pop('k:{"containerPort":53,"protocol":"TCP"}'),
            (*CONTAINERS, WEB, "ports", Position("i", 2)),
        ),
        (
            lambda t: t["f:spec"]["f:template"]["f:spec"]["f:volumes"]['k:{"name":"v"}'].pop("f:emptyDir"),
            ("spec", "template", "spec", "volumes", ListKey("k", (("name", "v"),)), "emptyDir"),
        ),
        (lambda t: t["f:spec"].pop("f:selector"), ("spec", "selector", "matchLabels", "app")),
    ],
)
def test_a_field_that_another_manager_took_is_uncovered(lost: Any, path: Path) -> None:
    tree = edited(OWNED_TREE, lost)
    assert uncovered(MANIFEST, fields(tree)) == [path]


@pytest.mark.parametrize(
    ("gone", "path"),
    [
        (lambda m: m["spec"].pop("replicas"), ("spec", "replicas")),
        (lambda m: m["spec"].pop("selector"), ("spec", "selector")),
        (lambda m: container(m).pop("image"), (*CONTAINERS, WEB, "image")),
        (lambda m: container(m)["env"].pop(0), (*CONTAINERS, WEB, "env", ListKey("k", (("name", "A"),)))),
        (
            lambda m: container(m)["ports"].pop(2),
            (*CONTAINERS, WEB, "ports", ListKey("k", (("containerPort", 53), ("protocol", "TCP")))),
        ),
        (lambda m: m["metadata"]["labels"].pop("empty"), ("metadata", "labels", "empty")),
    ],
)
def test_a_field_that_the_manifest_dropped_is_surplus(gone: Any, path: Path) -> None:
    manifest = edited(MANIFEST, gone)
    assert surplus(manifest, FieldSet.parse(OWNED)) == [path]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda m: m["spec"].update(replicas=3), ("spec", "replicas")),
        (lambda m: m["spec"]["selector"]["matchLabels"].update(app="api"), ("spec", "selector")),
        (lambda m: container(m).update(image="y"), (*CONTAINERS, WEB, "image")),
        (
            lambda m: container(m)["resources"]["limits"].update(cpu="1001m"),
            (*CONTAINERS, WEB, "resources", "limits", "cpu"),
        ),
        (lambda m: container(m)["env"].reverse(), (*CONTAINERS, WEB, "env")),
        (lambda m: m["metadata"]["labels"].update(empty="x"), ("metadata", "labels", "empty")),
        (lambda m: m["metadata"]["annotations"].update(a="b"), ("metadata", "annotations")),
        (lambda m: m["spec"]["template"]["spec"].update(hostNetwork=True), ("spec", "template", "spec", "hostNetwork")),
        (
            lambda m: m["spec"]["template"]["spec"].update(tolerations=[{"key": "a"}]),
            ("spec", "template", "spec", "tolerations"),
        ),
    ],
)
def test_a_value_that_changed_is_differing(change: Any, path: Path) -> None:
    manifest = edited(MANIFEST, change)
    assert differing(manifest, LIVE, FieldSet.parse(OWNED)) == [path]


def test_a_live_value_that_is_gone_differs() -> None:
    live = edited(LIVE, lambda m: container(m)["env"].pop(0))
    assert differing(MANIFEST, live, FieldSet.parse(OWNED)) == [
        (*CONTAINERS, WEB, "env", ListKey("k", (("name", "A"),)))
    ]
    live = edited(LIVE, lambda m: m.pop("spec"))
    assert ("spec", "replicas") in differing(MANIFEST, live, FieldSet.parse(OWNED))


def test_foreign_additions_are_neither_differing_nor_surplus() -> None:
    def add(live: dict[str, Any]) -> None:
        live["metadata"]["labels"]["other"] = "x"
        container(live)["env"].insert(0, {"name": "SIDE", "value": "z"})
        live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "s"})

    owned = FieldSet.parse(OWNED)
    assert differing(MANIFEST, edited(LIVE, add), owned) == surplus(MANIFEST, owned) == []


def test_quantities_compare_as_numbers_but_data_and_labels_as_text() -> None:
    owned = fields({"f:metadata": {"f:labels": {"f:n": {}}}, "f:data": {"f:n": {}}, "f:spec": {"f:n": {}}})
    manifest = {"metadata": {"labels": {"n": "1000m"}}, "data": {"n": "1000m"}, "spec": {"n": "1000m"}}
    live = {"metadata": {"labels": {"n": "1"}}, "data": {"n": "1"}, "spec": {"n": 1}}
    assert differing(manifest, live, owned) == [("metadata", "labels", "n"), ("data", "n")]


def test_numbers_are_equal_across_int_and_float_but_never_equal_to_bools() -> None:
    owned = fields({"f:spec": {"f:a": {}, "f:b": {}}})
    assert differing({"spec": {"a": 1, "b": 2.0}}, {"spec": {"a": 1.0, "b": 2}}, owned) == []
    assert differing({"spec": {"a": 1, "b": True}}, {"spec": {"a": True, "b": 1}}, owned) == [
        ("spec", "a"),
        ("spec", "b"),
    ]


@pytest.mark.parametrize("nothing", [None, {}, [], "", 0, False])
def test_an_empty_value_equals_a_missing_one(nothing: Any) -> None:
    assert differing({"spec": {"a": nothing}}, {"spec": {}}, fields({"f:spec": {"f:a": {}}})) == []


def test_sets_compare_by_membership_only() -> None:
    owned = fields({"f:metadata": {"f:finalizers": {".": {}, 'v:"a"': {}, 'v:"b"': {}}}})
    manifest = {"metadata": {"finalizers": ["a", "b"]}}
    live = {"metadata": {"finalizers": ["b", "foreign", "a"]}}
    assert (uncovered(manifest, owned), surplus(manifest, owned), differing(manifest, live, owned)) == ([], [], [])
    assert surplus({"metadata": {"finalizers": ["a"]}}, owned) == [("metadata", "finalizers", ListValue("v", "b"))]
    more = {"metadata": {"finalizers": ["a", "b", "c"]}}
    assert uncovered(more, owned) == [("metadata", "finalizers", Position("i", 2))]
    assert differing(manifest, {"metadata": {"finalizers": ["a"]}}, owned) == [
        ("metadata", "finalizers", ListValue("v", "b"))
    ]


def test_positions_are_compared_by_index() -> None:
    owned = fields({"f:spec": {"f:list": {"i:0": {}, "i:1": {"f:a": {}}}}})
    manifest = {"spec": {"list": [1, {"a": 2}]}}
    assert (uncovered(manifest, owned), surplus(manifest, owned)) == ([], [])
    assert surplus({"spec": {"list": [1]}}, owned) == [("spec", "list", Position("i", 1))]
    assert differing(manifest, {"spec": {"list": [1, {"a": 3}]}}, owned) == [("spec", "list", Position("i", 1), "a")]


def test_a_key_that_the_manifest_leaves_out_matches_the_servers_default_first() -> None:
    tcp, udp = ({"containerPort": 53, "protocol": protocol} for protocol in ("TCP", "UDP"))
    edges: dict[str, Any] = {f"k:{orjson.dumps(key).decode()}": {".": {}, "f:containerPort": {}} for key in (udp, tcp)}
    assert surplus({"ports": [{"containerPort": 53}]}, fields({"f:ports": edges})) == [
        ("ports", ListKey("k", (("containerPort", 53), ("protocol", "UDP"))))
    ]


def test_keys_of_other_types_do_not_match_and_do_not_break() -> None:
    owned = fields({"f:l": {'k:{"name":1}': {".": {}, "f:name": {}}}})
    assert surplus({"l": [{"name": True}, {"name": ["x"]}, "text", None]}, owned) == [
        ("l", ListKey("k", (("name", 1),)))
    ]


def test_membership_reaches_into_atomic_values_but_not_into_maps() -> None:
    owned = FieldSet.parse(OWNED)
    assert ("spec", "replicas") in owned
    assert ("spec", "selector", "matchLabels", "app") in owned
    assert (*CONTAINERS, WEB) in owned
    assert ("spec",) not in owned
    assert ("spec", "paused") not in owned
    assert () not in owned
    assert ("spec",) not in FieldSet.parse(None)


def test_difference_and_intersection() -> None:
    ours = fields({"f:spec": {"f:a": {}, "f:l": {'k:{"name":"x"}': {".": {}, "f:name": {}, "f:v": {}}}}})
    theirs = fields({"f:spec": {"f:l": {'k:{"name":"x"}': {".": {}, "f:v": {}}}}})
    assert ours.difference(theirs) == fields({"f:spec": {"f:a": {}, "f:l": {'k:{"name":"x"}': {"f:name": {}}}}})
    assert not ours.difference(ours)
    assert ours.difference(FieldSet.parse(None)) == ours
    assert ours.intersects(theirs)
    assert not ours.intersects(fields({"f:spec": {"f:l": {'k:{"name":"x"}': {".": {}, "f:other": {}}}}}))
    assert not ours.intersects(FieldSet.parse(None))
    item = fields({"f:l": {'k:{"name":"x"}': {".": {}, "f:v": {}}}})
    assert item.difference(fields({"f:l": {'k:{"name":"x"}': {"f:v": {}}}})) == fields({"f:l": {'k:{"name":"x"}': {}}})


def test_the_digest_ignores_order_and_sees_every_member() -> None:
    shuffled = orjson.dumps(shuffle(OWNED_TREE, random.Random(1)))
    assert shuffled != OWNED
    assert digest(shuffled) == digest(OWNED) != digest(None) == b""
    assert digest(OWNED) != digest(orjson.dumps(edited(OWNED_TREE, lambda t: t["f:spec"].pop("f:replicas"))))


def shuffle(tree: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    edges = list(tree)
    rng.shuffle(edges)
    return {edge: shuffle(tree[edge], rng) for edge in edges}


def test_pointers_for_people_name_positions_where_there_are_some() -> None:
    assert pointer((*CONTAINERS, WEB, "image"), MANIFEST) == "/spec/template/spec/containers/0/image"
    assert pointer((*CONTAINERS, ListKey("k", (("name", "old"),)), "image"), MANIFEST).endswith(
        "/containers/name=old/image"
    )
    assert pointer(("metadata", "labels", "a/b"), MANIFEST) == "/metadata/labels/a~1b"
    assert pointer(("metadata", "finalizers", ListValue("v", "x")), MANIFEST) == "/metadata/finalizers/=x"
    assert pointer((*CONTAINERS, Position("i", 0), "image"), MANIFEST) == "/spec/template/spec/containers/0/image"
    port = ListKey("k", (("containerPort", 53), ("protocol", "TCP")))
    assert pointer((*CONTAINERS, WEB, "ports", port), MANIFEST).endswith("/ports/2")


def test_conflict_paths_are_read_with_the_help_of_the_manifest() -> None:
    manifest = {"metadata": {"labels": {"app.kubernetes.io/name": "x", "app": "y"}}, **MANIFEST["spec"]}
    cases: list[tuple[str, Path]] = [
        (".spec.replicas", ("spec", "replicas")),
        ('.spec.template.spec.containers[name="web"].image', (*CONTAINERS, WEB, "image")),
        (".metadata.labels.app.kubernetes.io/name", ("metadata", "labels", "app.kubernetes.io/name")),
        (".metadata.labels.app", ("metadata", "labels", "app")),
        (
            '.a[containerPort=53,protocol="TCP"].b',
            ("a", ListKey("k", (("containerPort", 53), ("protocol", "TCP"))), "b"),
        ),
        ('.metadata.finalizers[="x]y"]', ("metadata", "finalizers", ListValue("v", "x]y"))),
        (".list[3].x", ("list", Position("i", 3), "x")),
    ]
    for text, path in cases:
        assert parse_field_text(text, manifest) == path
    for bad in ("spec", ".spec[", ".", ".a..b"):
        with pytest.raises(ValueError, match="not a field path"):
            parse_field_text(bad, {})


def test_names_with_dots_below_list_items_are_found() -> None:
    manifest = {"l": [{"name": "a", "m": {"x.y": 1}}]}
    assert parse_field_text('.l[name="a"].m.x.y', manifest) == ("l", ListKey("k", (("name", "a"),)), "m", "x.y")


def test_owners_are_found_by_path_and_by_pointer() -> None:
    entries: list[dict[str, Any]] = [
        {"manager": "syncline", "operation": "Apply", "fieldsV1": OWNED_TREE},
        {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {
            "manager": "kubectl",
            "operation": "Update",
            "subresource": "scale",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        },
        {"manager": "empty", "operation": "Update"},
    ]
    assert owners(entries, ("spec", "replicas")) == ["syncline", "kubectl"]
    assert owners(entries, "/spec/replicas") == ["syncline", "kubectl"]
    assert owners(entries, "/spec/template/spec/containers/0/image", LIVE) == ["syncline"]
    assert owners(entries, "/spec/template/spec/containers/1/image", LIVE) == []
    assert owners(entries, "/spec/paused") == []


def test_bytes_that_are_no_field_set_are_refused() -> None:
    with pytest.raises(ValueError, match="not an object"):
        FieldSet.parse(b"[]")


def test_digits_of_other_scripts_are_no_list_position() -> None:
    """They satisfy `str.isdigit`, and `int` refuses some of them."""
    owned = FieldSet.parse(b'{"f:a":{"i:0":{}}}')
    assert owned.resolve("/a/\u00b2", {"a": [1]}) == ("a", "\u00b2")
