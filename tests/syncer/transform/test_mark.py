"""`syncer.transform.mark`: whose copy an object is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.kube.objects import KubeObject, decode_object
from syncer.transform import SourceRef, is_ours, mark, read_applied, read_deletion, read_mark
from tests.syncer.transform.builders import workload

SOURCE = SourceRef("hub-1", "root", "apps/v1", "Deployment", "shop", "web", "uid-1", 3)


def observed(manifest: dict[str, Any]) -> KubeObject:
    """The manifest as the informer decodes it."""
    metadata = {"uid": "d", "resourceVersion": "1", **manifest["metadata"]}
    return decode_object(orjson.dumps({**manifest, "metadata": metadata}))


def marked(**metadata: Any) -> KubeObject:
    """A marked Deployment whose metadata was changed afterwards."""
    manifest, _ = mark(workload(), SOURCE, deletion_policy="Delete")
    return observed({**manifest, "metadata": {**manifest["metadata"], **metadata}})


def test_a_mark_is_read_back_as_it_was_written() -> None:
    copy = marked()
    assert read_mark(copy) == SOURCE
    assert read_deletion(copy) == "Delete"
    assert is_ours(copy, "hub-1")


def test_the_hash_covers_content_and_mark_but_not_itself() -> None:
    first, digest = mark(workload(), SOURCE, deletion_policy="Delete")
    assert read_applied(observed(first)) == digest
    assert mark(first, SOURCE, deletion_policy="Delete") == (first, digest)
    assert mark(workload(replicas=2), SOURCE, deletion_policy="Delete")[1] != digest
    assert mark(workload(), replace(SOURCE, generation=4), deletion_policy="Delete")[1] != digest
    assert mark(workload(), SOURCE, deletion_policy="Orphan")[1] != digest


def test_labels_and_annotations_of_the_object_stay() -> None:
    manifest = workload()
    manifest["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    copy, _ = mark(manifest, SOURCE, deletion_policy="Orphan")
    assert copy["metadata"]["labels"] == {"a": "b", "syncline.io/managed-by": "hub-1"}
    assert copy["metadata"]["annotations"]["c"] == "d"
    assert manifest["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {}},
        {"labels": {"syncline.io/managed-by": "hub-2"}},
        {"annotations": {}},
        {"name": "web-slice"},
        {"namespace": "other"},
        {
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "o", "controller": True}
            ]
        },
        {"annotations": {"syncline.io/source": replace(SOURCE, hub="hub-2").to_json()}},
        {"annotations": {"syncline.io/source": replace(SOURCE, kind="ReplicaSet").to_json()}},
        {"annotations": {"syncline.io/source": replace(SOURCE, api_version="extensions/v1").to_json()}},
    ],
)
def test_what_only_looks_like_our_copy_is_not_ours(metadata: dict[str, Any]) -> None:
    """Labels and annotations are inherited by controllers' children, so each of these objects is somebody else's."""
    assert not is_ours(marked(**metadata), "hub-1")


def test_a_newer_version_of_the_same_kind_is_still_ours() -> None:
    copy = marked(annotations={"syncline.io/source": replace(SOURCE, api_version="apps/v1beta2").to_json()})
    assert is_ours(copy, "hub-1")


class _Prefixed:
    """A mapping that tests can tell from `Same`."""

    def map(self, namespace: str) -> str:
        return f"x-{namespace}" if namespace else ""

    def unmap(self, namespace: str) -> str:
        return namespace.removeprefix("x-")


def test_ownership_is_judged_by_the_mapped_name() -> None:
    assert is_ours(marked(namespace="x-shop"), "hub-1", _Prefixed())
    assert not is_ours(marked(), "hub-1", _Prefixed())


def test_a_namespace_that_we_made_is_judged_by_its_own_mapped_name() -> None:
    source = SourceRef("hub-1", "root", "v1", "Namespace", "", "shop", "uid-1", 0)
    manifest, _ = mark(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x-shop"}}, source, deletion_policy="Delete"
    )
    assert is_ours(observed(manifest), "hub-1", _Prefixed())
    assert not is_ours(observed(manifest), "hub-1")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"hub": 1}', '"text"', "\udcff"])
def test_a_mark_that_cannot_be_read_is_no_mark(text: str) -> None:
    assert SourceRef.from_json(text) is None


@pytest.mark.parametrize("field", ["hub", "uid", "generation"])
@pytest.mark.parametrize("value", [None, True, 1.5, [], {}])
def test_a_mark_with_a_field_of_the_wrong_type_is_no_mark(field: str, value: object) -> None:
    assert SourceRef.from_json(orjson.dumps({**orjson.loads(SOURCE.to_json()), field: value}).decode()) is None


@pytest.mark.parametrize("text", [None, "", "delete", "Keep", "Orphan"])
def test_a_missing_or_unreadable_deletion_policy_means_orphan(text: str | None) -> None:
    assert read_deletion(marked(annotations={} if text is None else {"syncline.io/deletion": text})) == "Orphan"


@given(st.builds(SourceRef, *[st.text(st.characters(exclude_categories=["Cs"]))] * 7, st.integers(0, 2**53)))
def test_every_source_survives_its_text_form(source: SourceRef) -> None:
    assert SourceRef.from_json(source.to_json()) == source


def test_a_text_too_long_for_a_mark_is_none_and_not_kept() -> None:
    text = SourceRef("h", "h", "v1", "ConfigMap", "shop", "web", "u", 1).to_json()
    assert SourceRef.from_json(text.ljust(4096)) is not None
    kept = SourceRef._read.cache_info().currsize
    assert SourceRef.from_json(text.ljust(4097)) is None
    assert SourceRef._read.cache_info().currsize == kept
