"""Paths are read once and in one way; what they ask for is what Kubernetes' authorizer would see."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.keys import GroupResource
from syncer.kube.apirequest import Attributes, attributes, parse_path
from syncer.kube.http1 import BadMessage

PODS = GroupResource("", "pods")
DEPLOYMENTS = GroupResource("apps", "deployments")
NAMESPACES = GroupResource("", "namespaces")


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("GET /api/v1/pods", Attributes("list", PODS)),
        ("GET /api/v1/pods?watch=true", Attributes("watch", PODS)),
        ("GET /api/v1/pods?watch=1", Attributes("watch", PODS)),
        ("GET /api/v1/pods?watch", Attributes("watch", PODS)),
        ("GET /api/v1/pods?%77atch=1", Attributes("watch", PODS)),
        ("GET /api/v1/pods?watch=FALSE", Attributes("list", PODS)),
        ("GET /api/v1/pods?watch=0&watch=1", Attributes("list", PODS)),
        ("GET /api/v1/namespaces/a/pods/b", Attributes("get", PODS, "", "a", "b")),
        ("HEAD /api/v1/namespaces/a/pods/b", Attributes("get", PODS, "", "a", "b")),
        ("GET /api/v1/namespaces/a/pods/b/log", Attributes("get", PODS, "log", "a", "b")),
        ("GET /api/v1/namespaces/a/pods/b/exec", Attributes("create", PODS, "exec", "a", "b")),
        ("POST /api/v1/namespaces/a/pods/b/attach", Attributes("create", PODS, "attach", "a", "b")),
        ("GET /api/v1/namespaces/a/pods/b/proxy/c/d/", Attributes("get", PODS, "proxy", "a", "b")),
        ("DELETE /api/v1/namespaces/a/pods", Attributes("deletecollection", PODS, "", "a")),
        ("DELETE /api/v1/namespaces/a/pods/b", Attributes("delete", PODS, "", "a", "b")),
        ("PUT /apis/apps/v1/namespaces/a/deployments/b/scale", Attributes("update", DEPLOYMENTS, "scale", "a", "b")),
        ("PATCH /apis/apps/v1/namespaces/a/deployments/b", Attributes("patch", DEPLOYMENTS, "", "a", "b")),
        ("GET /api/v1/namespaces", Attributes("list", NAMESPACES)),
        ("GET /api/v1/namespaces/a", Attributes("get", NAMESPACES, "", "", "a")),
        ("PUT /api/v1/namespaces/a/finalize", Attributes("update", NAMESPACES, "finalize", "", "a")),
        ("GET /api/v1/namespaces/a/pods/system%3Ab", Attributes("get", PODS, "", "a", "system:b")),
        ("GET /api", Attributes("get", path="/api")),
        ("GET /api/v1", Attributes("get", path="/api/v1")),
        ("GET /apis/apps/v1?timeout=32s", Attributes("get", path="/apis/apps/v1")),
        ("GET /openapi/v3/", Attributes("get", path="/openapi/v3/")),
        ("GET /", Attributes("get", path="/")),
    ],
)
def test_what_is_asked_for(line: str, asked: Attributes) -> None:
    method, _, target = line.partition(" ")
    assert attributes(method, parse_path(target)) == asked


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "api/v1",
        "http://x/api",
        "//api",
        "/api//v1",
        "/api/./v1",
        "/api/../v1",
        "/api/%2e%2e/v1",
        "/api/%2E/v1",
        "/api/v1/a%2fb",
        "/api/v1/a%5cb",
        "/api/v1/a\\b",
        "/api/v1/a%252fb",
        "/api/v1/a;b",
        "/api/v1/a%3bb",
        "/api/v1/a%00",
        "/api/v1/a%0d%0ab",
        "/api/v1/a%",
        "/api/v1/a%zz",
        "/api/v1/%ff",
        "/api/v1/a b",
        "/api/v1/ä",
        "/api/v1#a",
        "/api/v1?a;b",
        "/api/v1?a\x00",
        "/api/v1?a#b",
        "/" + "a" * 20_000,
    ],
)
def test_spellings_that_somebody_reads_otherwise_are_refused(target: str) -> None:
    """B36."""
    with pytest.raises(BadMessage):
        parse_path(target)


@pytest.mark.parametrize("line", ["OPTIONS /api", "TRACE /api", "get /api", "GET /api/v1/watch/pods"])
def test_methods_and_prefixes_that_nobody_needs_are_refused(line: str) -> None:
    """B36."""
    method, _, target = line.partition(" ")
    with pytest.raises(BadMessage):
        attributes(method, parse_path(target))


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5))
def test_what_is_written_again_reads_the_same(names: list[str]) -> None:
    """Round trip: the path that was judged is the path that is sent."""
    target = "/" + "/".join(quote(name, safe="") for name in names)
    try:
        path = parse_path(target)
    except BadMessage:
        return
    assert parse_path(path.text()) == path
    assert path.segments == tuple(names)
