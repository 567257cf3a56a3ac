"""What a cluster serves: found, proven absent, unknown."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from syncer.api.keys import GroupResource
from syncer.errors import TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.errors import ApiError, MalformedAnswer
from tests.support.fakeapi import FakeApi, Scripted, failure


def resource(plural: str, kind: str, *subresources: str, scope: str = "Namespaced") -> dict[str, Any]:
    return {
        "resource": plural,
        "responseKind": {"group": "", "version": "", "kind": kind},
        "scope": scope,
        "verbs": ["get", "list"],
        "subresources": [{"subresource": name} for name in subresources],
    }


def version(name: str, *resources: dict[str, Any], freshness: str = "Current") -> dict[str, Any]:
    return {"version": name, "resources": list(resources), "freshness": freshness}


def groups(**items: list[dict[str, Any]]) -> Scripted:
    listed = [{"metadata": {"name": name.replace("_", ".")}, "versions": versions} for name, versions in items.items()]
    body = orjson.dumps({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": listed})
    return Scripted(200, body, {"ETag": f'"{hash(body)}"'})


CORE = Scripted(
    200,
    orjson.dumps(
        {
            "kind": "APIGroupDiscoveryList",
            "items": [
                {
                    "versions": [
                        version(
                            "v1",
                            resource("configmaps", "ConfigMap"),
                            resource("nodes", "Node", "status", scope="Cluster"),
                        )
                    ]
                }
            ],
        }
    ),
    {"ETag": '"core"'},
)
DEPLOYMENTS = resource("deployments", "Deployment", "status", "scale")
UNCHANGED = Scripted(304)


async def test_kinds_are_found_by_version_by_group_and_by_plural(api: FakeApi, client: ClusterClient) -> None:
    autoscaling = [
        version("v2", resource("hpas", "HPA")),
        version("v1", resource("hpas", "HPA"), resource("old", "Old")),
    ]
    api.answer_next("GET", CORE, groups(apps=[version("v1", DEPLOYMENTS)], autoscaling=autoscaling))
    discovery = Discovery(client)
    assert await discovery.refresh()
    found = discovery.find("apps/v1", "Deployment")
    assert found is not None
    assert (found.resource, found.namespaced, found.has_status, found.has_scale) == ("deployments", True, True, True)
    assert found.verbs == {"get", "list"}
    node = discovery.find("v1", "Node")
    assert node is not None
    assert (node.group, node.namespaced, node.has_status, node.has_scale) == ("", False, True, False)
    for asked, expected in (("autoscaling", "v2"), ("autoscaling/v1", "v1"), ("autoscaling/v2", "v2")):
        hpa = discovery.find(asked, "HPA")
        assert hpa is not None
        assert hpa.version == expected
    old = discovery.find("autoscaling", "Old")
    preferred = discovery.find_resource(GroupResource("autoscaling", "hpas"))
    assert old is not None
    assert preferred is not None
    assert (old.version, preferred.version) == ("v1", "v2")
    assert (
        discovery.find("", "ConfigMap")
        == discovery.find("v1", "ConfigMap")
        == discovery.find_resource(GroupResource("", "configmaps"))
    )
    assert sorted(str(info.group_resource) for info in discovery.resources()) == [
        "configmaps",
        "deployments.apps",
        "hpas.autoscaling",
        "nodes",
        "old.autoscaling",
    ]


async def test_absence_is_proven_only_by_a_whole_answer(api: FakeApi, client: ClusterClient) -> None:
    """B24: a missing kind is told from a cluster that could not be asked."""
    discovery = Discovery(client)
    with pytest.raises(TransientError, match="not known yet"):
        discovery.find("v1", "Pod")
    with pytest.raises(TransientError, match="not known yet"):
        discovery.find_resource(GroupResource("", "pods"))
    api.answer_next("GET", CORE, groups(apps=[version("v1", DEPLOYMENTS)]))
    await discovery.refresh()
    assert discovery.find("apps", "Deployment") is not None
    assert discovery.find("shop.example.com", "Order") is None
    assert discovery.find("apps/v1beta1", "Deployment") is None
    assert discovery.find("apps/v1", "Nope") is None
    assert discovery.find_resource(GroupResource("", "pods")) is None


async def test_a_failed_refresh_keeps_what_is_known_and_turns_absence_into_unknown(
    api: FakeApi, client: ClusterClient
) -> None:
    discovery = Discovery(client)
    api.answer_next("GET", CORE, groups(apps=[version("v1", DEPLOYMENTS)]))
    await discovery.refresh()
    api.answer_next("GET", UNCHANGED, failure(503))
    with pytest.raises(ApiError):
        await discovery.refresh()
    assert discovery.find("apps/v1", "Deployment") is not None
    with pytest.raises(TransientError, match="could not be asked"):
        discovery.find("shop.example.com", "Order")
    api.answer_next("GET", UNCHANGED, UNCHANGED)
    assert not await discovery.refresh()
    assert discovery.find("shop.example.com", "Order") is None


async def test_a_group_whose_server_is_away_is_unknown(api: FakeApi, client: ClusterClient) -> None:
    discovery = Discovery(client)
    away = [version("v1", freshness="Stale")]
    half = [version("v1", resource("a", "A")), version("v2", freshness="Stale")]
    api.answer_next("GET", CORE, groups(away_example=away, half_example=half))
    await discovery.refresh()
    with pytest.raises(TransientError, match=r"'away\.example' does not answer"):
        discovery.find("away.example", "A")
    assert discovery.find("half.example", "A") is not None
    with pytest.raises(TransientError):
        discovery.find("half.example", "B")


async def test_an_unchanged_answer_is_asked_for_by_its_etag(api: FakeApi, client: ClusterClient) -> None:
    discovery = Discovery(client)
    first = groups(apps=[version("v1", DEPLOYMENTS)])
    api.answer_next("GET", CORE, first, UNCHANGED, UNCHANGED, UNCHANGED, groups(apps=[]))
    assert [await discovery.refresh() for _ in range(3)] == [True, False, True]
    assert api.requests[2].headers["If-None-Match"] == '"core"'
    assert api.requests[3].headers["If-None-Match"] == first.headers["ETag"]
    assert "apidiscovery.k8s.io" in api.requests[0].headers["Accept"]
    assert discovery.find("apps", "Deployment") is None


def legacy(kind: str, **body: Any) -> Scripted:
    return Scripted(200, orjson.dumps({"kind": kind, **body}))


async def test_an_old_server_is_read_version_by_version(api: FakeApi, client: ClusterClient) -> None:
    def listed(*names: str) -> Scripted:
        items = [
            {"name": name, "kind": name.split("/")[0].title(), "namespaced": True, "verbs": ["get"]} for name in names
        ]
        return legacy("APIResourceList", resources=items)

    def group(name: str, *versions: str, preferred: str) -> dict[str, Any]:
        return {
            "name": name,
            "versions": [{"version": v} for v in versions],
            "preferredVersion": {"version": preferred},
        }

    api.answer_next(
        "GET",
        legacy("APIVersions", versions=["v1"]),
        listed("pods", "pods/status", "pods/log"),
        legacy(
            "APIGroupList",
            groups=[group("apps", "v1beta1", "v1", preferred="v1"), group("broken", "v1", preferred="v1")],
        ),
        listed("deployments", "deployments/scale"),
        failure(404),
        failure(503),
    )
    discovery = Discovery(client)
    await discovery.refresh()
    assert [r.path for r in api.requests] == [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps/v1",
        "/apis/apps/v1beta1",
        "/apis/broken/v1",
    ]
    pods, deployments = discovery.find("v1", "Pods"), discovery.find("apps", "Deployments")
    assert pods is not None
    assert deployments is not None
    assert (pods.has_status, pods.has_scale, deployments.version, deployments.has_scale) == (True, False, "v1", True)
    with pytest.raises(TransientError):
        discovery.find("broken", "Pods")


async def test_what_is_no_discovery_document_is_malformed(api: FakeApi, client: ClusterClient) -> None:
    api.answer_next("GET", Scripted(200, b"[1]"))
    with pytest.raises(MalformedAnswer):
        await Discovery(client).refresh()
