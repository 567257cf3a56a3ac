"""Reading objects, lists and watch lines."""

from __future__ import annotations

import gc
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.keys import GroupKind, GroupResource
from syncer.errors import TerminalError, TransientError
from syncer.kube.errors import MalformedAnswer
from syncer.kube.objects import (
    INITIAL_EVENTS_END,
    LAST_APPLIED_ANNOTATION,
    ResourceInfo,
    decode_list,
    decode_object,
    decode_watch_event,
    key_of,
)

DEPLOYMENTS = ResourceInfo("apps", "v1", "deployments", "Deployment", True, has_status=True, has_scale=True)
NODES = ResourceInfo("", "v1", "nodes", "Node", False)
OWNED: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
WEB: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "u-1",
        "resourceVersion": "17",
        "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "deletionTimestamp": "2026-01-03T03:04:05Z",
        "labels": {"app": "web"},
        "annotations": {"note": 'ü " \\ \n', LAST_APPLIED_ANNOTATION: '{"canary":"s3cret"}'},
        "finalizers": ["a/b", "c/d"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u-0", "controller": True}],
        "selfLink": "/kept",
        "managedFields": [
            {"manager": "syncline", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
            {"manager": "syncline", "operation": "Update", "fieldsV1": {"f:metadata": {}}},
            {"manager": "syncline", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": OWNED},
            {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:data": {}}},
        ],
    },
    "spec": {"replicas": 3, "big": 9007199254740993, "list": [{"name": "a"}]},
    "unknownTopLevel": [1, 2],
    "status": {"replicas": 1},
}


def test_metadata_is_typed_and_the_rest_is_kept_byte_for_byte() -> None:
    web = decode_object(orjson.dumps(WEB))
    assert (web.api_version, web.kind, web.namespace, web.name, web.uid) == (
        "apps/v1",
        "Deployment",
        "shop",
        "web",
        "u-1",
    )
    assert (web.resource_version, web.generation, web.creation_timestamp) == ("17", 3, "2026-01-02T03:04:05Z")
    assert web.terminating
    assert web.deletion_timestamp == "2026-01-03T03:04:05Z"
    assert web.finalizers == ("a/b", "c/d")
    owner = web.owner_references[0]
    assert (owner.api_version, owner.kind, owner.name, owner.uid, owner.controller) == ("v1", "X", "x", "u-0", True)
    assert key_of(web) == ("shop", "web")
    expected = json.loads(json.dumps(WEB))
    del expected["metadata"]["managedFields"], expected["metadata"]["annotations"][LAST_APPLIED_ANNOTATION]
    assert web.manifest() == expected
    assert web.annotations == expected["metadata"]["annotations"]


def test_owned_is_the_applied_entry_of_our_manager_on_the_main_resource() -> None:
    data = orjson.dumps(WEB)
    owned = decode_object(data).owned
    assert owned is not None
    assert orjson.loads(owned) == OWNED
    assert decode_object(data, manager="kubectl").owned == b'{"f:data":{}}'
    assert decode_object(data, manager=None).owned is None
    assert decode_object(data, manager="nobody").owned is None


def test_last_applied_and_managed_fields_never_stay_in_memory() -> None:
    """S52: copies of Secret data in annotations are dropped when the object is read."""
    web = decode_object(orjson.dumps(WEB))
    assert b"s3cret" not in web.raw
    assert b"managedFields" not in web.raw
    assert LAST_APPLIED_ANNOTATION not in web.annotations


def test_a_manifest_may_be_edited_without_touching_the_object() -> None:
    web = decode_object(orjson.dumps(WEB))
    web.manifest()["spec"]["replicas"] = 7
    assert web.field("spec", "replicas") == 3
    with pytest.raises(AttributeError):
        web.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replicas"), 3),
        (("spec", "list", 0, "name"), "a"),
        (("spec", "list", -1, "name"), "a"),
        (("spec", "list", 5), None),
        (("spec", "list", "name"), None),
        (("spec", "replicas", "deeper"), None),
        (("data", "x"), None),
        (("unknownTopLevel",), [1, 2]),
    ],
)
def test_field_decodes_one_value_or_none(path: tuple[str | int, ...], value: Any) -> None:
    assert decode_object(orjson.dumps(WEB)).field(*path) == value


def test_field_without_a_path_is_the_whole_object() -> None:
    web = decode_object(orjson.dumps(WEB))
    assert web.field() == web.manifest()


def test_missing_and_null_metadata_have_plain_defaults() -> None:
    plain = decode_object(
        b'{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":null,"creationTimestamp":null}}'
    )
    assert (plain.namespace, plain.uid, plain.generation, plain.labels, plain.annotations) == ("", "", 0, {}, {})
    assert (plain.finalizers, plain.owner_references, plain.owned, plain.terminating) == ((), (), None, False)


def test_the_collector_does_not_follow_cached_objects() -> None:
    assert not gc.is_tracked(decode_object(orjson.dumps(WEB)))


def test_objects_that_are_owned_alike_share_the_bytes_of_it() -> None:
    one, other = decode_object(orjson.dumps(WEB)), decode_object(orjson.dumps({**WEB, "spec": {}}))
    assert one.owned is other.owned


def test_an_object_does_not_hold_on_to_the_buffer_it_came_from() -> None:
    buffer = bytearray(orjson.dumps({"type": "ADDED", "object": WEB}))
    event = decode_watch_event(bytes(memoryview(buffer)))
    assert event.object is not None
    before = event.object.raw
    buffer[:] = b"x" * len(buffer)
    assert type(event.object.raw) is bytes
    assert type(event.object.owned) is bytes
    assert event.object.raw == before


def test_list_items_get_the_kind_that_lists_leave_out() -> None:
    item = {key: value for key, value in WEB.items() if key not in ("apiVersion", "kind")}
    own_kind = {**WEB, "kind": "Own", "apiVersion": "own/v1"}
    page = decode_list(
        orjson.dumps(
            {
                "kind": "DeploymentList",
                "apiVersion": "apps/v1",
                "metadata": {"resourceVersion": "99", "continue": "token", "remainingItemCount": 4},
                "items": [item, own_kind],
            }
        )
    )
    assert (page.resource_version, page.continue_token) == ("99", "token")
    assert [(o.api_version, o.kind) for o in page.objects] == [("apps/v1", "Deployment"), ("own/v1", "Own")]
    assert page.objects[0].manifest()["kind"] == "Deployment"


def test_an_empty_list_may_be_null() -> None:
    page = decode_list(b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":null}')
    assert (page.objects, page.continue_token) == ((), "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{"metadata"',
        b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}',
        b'{"kind":"Status","apiVersion":"v1","metadata":{"resourceVersion":"1"}}',
        b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{"spec":{}}]}',
        b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{}}]}',
    ],
)
def test_anything_but_a_whole_list_is_refused(body: bytes) -> None:
    """F11: a truncated page is an error, never a shorter list."""
    with pytest.raises(MalformedAnswer):
        decode_list(body)


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_watch_events_carry_objects(kind: str) -> None:
    event = decode_watch_event(orjson.dumps({"type": kind, "object": WEB}))
    assert (event.type, event.resource_version) == (kind, "17")
    assert event.object is not None
    assert event.object.name == "web"


def test_bookmarks_carry_a_version_and_may_end_a_streaming_list() -> None:
    metadata: dict[str, Any] = {"resourceVersion": "50", "creationTimestamp": None}
    plain = decode_watch_event(orjson.dumps({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": metadata}}))
    metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    last = decode_watch_event(orjson.dumps({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": metadata}}))
    assert (plain.type, plain.resource_version, plain.initial_end) == ("BOOKMARK", "50", False)
    assert last.initial_end


def test_in_stream_errors_are_events() -> None:
    event = decode_watch_event(
        b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}'
    )
    assert event.status is not None
    assert (event.type, event.status.code, event.status.reason) == ("ERROR", 410, "Expired")
    odd = decode_watch_event(b'{"type":"ERROR","object":{"code":"text"}}')
    assert odd.status is not None
    assert odd.status.code == 500


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"type":"ADDED"}',
        b'{"type":"NEW","object":{}}',
        b'{"type":"ADDED","object":{"metadata":{"name":1}}}',
        b"\xff\xfe",
    ],
)
def test_bad_lines_are_transient_errors_without_content(line: bytes) -> None:
    """F03, P17: bad JSON and unknown types are errors to recover from; no bytes of an object get into the message."""
    with pytest.raises(MalformedAnswer) as caught:
        decode_watch_event(line)
    assert isinstance(caught.value, TransientError)


def test_error_messages_do_not_repeat_values() -> None:
    """P17."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "generation": "canary-77"}}
    line = orjson.dumps({"type": "ADDED", "object": {**secret, "data": {"x": "canary-77"}}})
    with pytest.raises(MalformedAnswer) as caught:
        decode_watch_event(line)
    assert "canary" not in str(caught.value)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.text(max_size=5)),
    lambda c: st.one_of(st.lists(c, max_size=3), st.dictionaries(st.text(max_size=4), c, max_size=3)),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.text(max_size=4).filter(lambda k: k not in ("apiVersion", "kind", "metadata")), _json, max_size=4
    )
)
def test_unknown_content_survives_unchanged(content: dict[str, Any]) -> None:
    whole = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n", "managedFields": [], "x": content}, **content}
    del whole["metadata"]["managedFields"]
    assert decode_object(orjson.dumps(whole)).manifest() == whole


def test_resource_info_says_paths_and_names() -> None:
    assert DEPLOYMENTS.path("shop", "web", "status") == "/apis/apps/v1/namespaces/shop/deployments/web/status"
    assert DEPLOYMENTS.path() == "/apis/apps/v1/deployments"
    assert NODES.path("", "n 1/?".replace("/", "")) == "/api/v1/nodes/n%201%3F"
    assert NODES.path("", "system:node") == "/api/v1/nodes/system:node"
    assert (DEPLOYMENTS.api_version, NODES.api_version) == ("apps/v1", "v1")
    assert DEPLOYMENTS.group_resource == GroupResource("apps", "deployments")
    assert DEPLOYMENTS.group_kind == GroupKind("apps", "Deployment")


@pytest.mark.parametrize(("place", "name"), [("a/b", ""), ("..", "x"), ("shop", "a/b"), ("shop", "."), ("shop", "..")])
def test_names_that_would_change_the_path_are_refused(place: str, name: str) -> None:
    with pytest.raises(TerminalError, match="not a name"):
        DEPLOYMENTS.path(place, name)


def test_a_cluster_scoped_kind_has_no_namespace() -> None:
    with pytest.raises(TerminalError, match="cluster-scoped"):
        NODES.path("shop", "n")
