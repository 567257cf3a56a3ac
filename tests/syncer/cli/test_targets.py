"""`get`, `cordon`, `uncordon`, `ack`, and what `target add` refuses before it writes anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncer.cli.adopt import marked, new_mark
from syncer.cli.resolve import served
from syncer.cli.targets import table
from syncer.transform.mark import SourceRef
from tests.syncer.cli.conftest import DISCOVERY, FakeServer, Result, write_kubeconfig
from tests.syncer.cli.test_app import assert_two_lines

Cli = Callable[..., Result]
TARGETS = "/apis/syncline.io/v1alpha1/synctargets"
TABLE: dict[str, Any] = {
    "kind": "Table",
    "columnDefinitions": [
        {"name": "Name", "priority": 0},
        {"name": "Ready", "priority": 0},
        {"name": "Cluster", "priority": 1},
    ],
    "rows": [
        {"cells": ["east", "True", "uid-1"], "object": {"metadata": {"name": "east", "labels": {"region": "eu"}}}},
        {"cells": ["west", "", "uid-2"], "object": {"metadata": {"name": "west"}}},
    ],
}
BUSY = (429, {"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "storage is (re)initializing"})


def target(name: str = "east", **spec: Any) -> dict[str, Any]:
    return {"kind": "SyncTarget", "metadata": {"name": name, "managedFields": [1]}, "spec": spec, "status": {}}


def test_the_servers_own_columns_are_shown() -> None:
    assert table(TABLE, wide=False) == "NAME   READY\neast   True\nwest   -"
    assert table(TABLE, wide=True).splitlines()[1] == "east   True    uid-1     region=eu"
    assert table(TABLE | {"rows": []}, wide=False) == ""


def test_rows_of_several_namespaces_name_theirs() -> None:
    rows = [{"cells": ["web"], "object": {"metadata": {"name": "web", "namespace": "shop"}}}]
    answer = {"columnDefinitions": [{"name": "Name"}], "rows": rows}
    assert table(answer, wide=False) == "NAMESPACE   NAME\nshop        web"


def test_targets_are_listed_and_an_empty_list_says_how_to_add_one(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[TARGETS] = TABLE
    assert cli("get", "targets").out.splitlines()[1] == "east   True"
    assert upstream.asked[-1].headers["Accept"].startswith("application/json;as=Table")
    upstream.routes[TARGETS] = TABLE | {"rows": []}
    assert "syncline target add" in cli("get", "targets").out


def test_data_for_programs_is_a_kubernetes_list_without_noise(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[TARGETS] = {"kind": "SyncTargetList", "items": [target()]}
    listed = json.loads(cli("get", "targets", "-o", "json").out)
    assert (listed["kind"], listed["items"][0]["metadata"]) == ("List", {"name": "east"})


def test_a_busy_server_is_asked_again(cli: Cli, upstream: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after a CRD was installed its API answers 429 for a moment."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("syncer.cli.cluster.asyncio.sleep", sleep)
    upstream.routes[TARGETS] = [BUSY, BUSY, TABLE]
    assert cli("get", "targets").code == 0
    assert len(pauses) == 2


def test_placements_of_one_namespace_of_all_and_of_the_cluster(cli: Cli, upstream: FakeServer) -> None:
    base = "/apis/syncline.io/v1alpha1"
    empty = TABLE | {"rows": []}
    upstream.routes |= {f"{base}/namespaces/shop/placements": empty, f"{base}/clusterplacements": empty}
    upstream.routes |= {f"{base}/namespaces/other/placements": TABLE, f"{base}/placements": empty}
    assert "No placements in namespace shop" in cli("get", "placements").out
    assert "east" in cli("get", "placements", "-n", "other").out
    assert cli("get", "placements", "-A").out == "No placements.\n"


def test_who_may_not_list_cluster_placements_still_sees_those_of_a_namespace(cli: Cli, upstream: FakeServer) -> None:
    base = "/apis/syncline.io/v1alpha1"
    refusal = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}
    upstream.routes |= {f"{base}/namespaces/shop/placements": TABLE, f"{base}/clusterplacements": (403, refusal)}
    result = cli("get", "placements")
    assert (result.code, "east" in result.out) == (0, True)
    assert result.err == "note: cluster placements are not shown, you may not list them\n"


def test_without_our_crds_the_answer_says_how_to_install_them(cli: Cli, upstream: FakeServer) -> None:
    text = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "the server could not find it"}
    upstream.routes |= dict.fromkeys([TARGETS, f"{TARGETS}/east"], (404, text))
    for command in (["get", "targets"], ["cordon", "east"]):
        result = cli(*command)
        assert_two_lines(result, 1)
        assert "syncline crds | kubectl apply" in result.err


@pytest.mark.parametrize(("command", "before", "after"), [("cordon", False, True), ("uncordon", True, False)])
def test_cordon_and_uncordon_patch_once_and_are_idempotent(
    cli: Cli, upstream: FakeServer, command: str, before: bool, after: bool
) -> None:
    upstream.routes[f"{TARGETS}/east"] = target(unschedulable=before)
    assert cli(command, "east").out == f"Target east is {command}ed.\n"
    sent = upstream.asked[-1]
    assert (sent.method, json.loads(sent.body)) == ("PATCH", {"spec": {"unschedulable": after}})
    upstream.routes[f"{TARGETS}/east"] = target(unschedulable=after)
    assert "already" in cli(command, "east").out
    assert upstream.asked[-1].method == "GET"


def test_an_unknown_target_is_answered_with_the_nearest(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[TARGETS] = {"items": [target("east"), target("west")]}
    result = cli("cordon", "eas")
    assert_two_lines(result, 1)
    assert "Did you mean east?" in result.err


def test_ack_hands_back_the_token_that_the_target_shows(cli: Cli, upstream: FakeServer) -> None:
    frozen = target() | {"status": {"frozen": {"token": "t0k", "deletes": 80}}}
    upstream.routes[f"{TARGETS}/east"] = frozen
    assert cli("ack", "east").out == "Target east goes on, 80 deletions go ahead.\n"
    assert json.loads(upstream.asked[-1].body) == {"metadata": {"annotations": {"syncline.io/acknowledge": "t0k"}}}


def test_ack_of_a_target_that_is_not_frozen_writes_nothing(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[f"{TARGETS}/east"] = target()
    result = cli("ack", "east")
    assert (result.code, "nothing to acknowledge" in result.out) == (0, True)
    assert [asked.method for asked in upstream.asked] == ["GET"]


KUBE_SYSTEM = "/api/v1/namespaces/kube-system"


def test_the_upstream_itself_is_no_target(cli: Cli, upstream: FakeServer, tmp_path: Path) -> None:
    upstream.routes[KUBE_SYSTEM] = {"metadata": {"uid": "hub-1"}}
    file = write_kubeconfig(tmp_path / "t.yaml", upstream.url)
    result = cli("target", "add", "east", "--target-kubeconfig", file)
    assert_two_lines(result, 1)
    assert "names the upstream cluster itself" in result.err
    assert {asked.method for asked in upstream.asked} == {"GET"}


def test_a_name_that_stands_for_another_cluster_is_kept_for_it(cli: Cli, upstream: FakeServer, tmp_path: Path) -> None:
    """B40: both identities are shown."""
    upstream.routes[KUBE_SYSTEM] = [{"metadata": {"uid": "hub-1"}}, {"metadata": {"uid": "cluster-2"}}]
    upstream.routes[f"{TARGETS}/east"] = target() | {"status": {"clusterUID": "cluster-1"}}
    file = write_kubeconfig(tmp_path / "t.yaml", upstream.url)
    result = cli("target", "add", "east", "--target-kubeconfig", file)
    assert_two_lines(result, 1)
    assert "cluster-1" in result.err
    assert "cluster-2" in result.err


@pytest.mark.parametrize("allow", ["Offers.shop.example", "a b", ""])
def test_what_is_no_resource_cannot_be_allowed(cli: Cli, upstream: FakeServer, tmp_path: Path, allow: str) -> None:
    upstream.routes[KUBE_SYSTEM] = [{"metadata": {"uid": "hub-1"}}, {"metadata": {"uid": "cluster-2"}}]
    upstream.routes["/version"] = {"gitVersion": "v1.36.4"}
    file = write_kubeconfig(tmp_path / "t.yaml", upstream.url)
    result = cli("target", "add", "east", "--target-kubeconfig", file, "--allow", allow)
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("hint: Write it like offers.shop.example")
    assert {asked.method for asked in upstream.asked} == {"GET"}


def source(hub: str) -> str:
    return SourceRef(hub, hub, "v1", "ConfigMap", "shop", "web", "u", 0).to_json()


def copy(annotations: dict[str, str] | None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop", "uid": "d", "annotations": annotations, **metadata}}


def test_only_real_copies_of_the_old_hub_are_taken_over() -> None:
    """P4: an inherited label, another hub's or an unreadable mark is not ours to move."""
    controlled = [{"controller": True, "uid": "x"}]
    items = [
        copy({"syncline.io/source": source("old")}),
        copy({"syncline.io/source": source("other")}),
        copy({"syncline.io/source": "rubbish"}),
        copy(None),
        copy({"syncline.io/source": source("old")}, ownerReferences=controlled),
    ]
    found = marked(items, "old")
    assert [item.key for item in found] == [("shop", "web")]
    patch = new_mark(found[0], "new")["metadata"]
    assert (patch["uid"], patch["labels"]) == ("d", {"syncline.io/managed-by": "new"})
    ref = SourceRef.from_json(patch["annotations"]["syncline.io/source"])
    assert ref is not None
    assert (ref.hub, ref.workspace, ref.name) == ("new", "new", "web")


def test_discovery_gives_paths_of_collections_and_objects() -> None:
    deployments = served(DISCOVERY["items"])[0]  # type: ignore[arg-type]
    assert deployments.path() == "/apis/apps/v1/deployments"
    assert deployments.path("shop", "a/b") == "/apis/apps/v1/namespaces/shop/deployments/a%2Fb"


def test_removing_all_targets_says_where_an_identity_remains(cli: Cli, upstream: FakeServer) -> None:
    """Whatever connection a target has, or none: an uninstallation runs this."""
    connections = {"near": {"kubeconfig": {"name": "near"}}, "far": {"tunnel": {}}, "odd": None}
    items = [{"metadata": {"name": name}, "spec": {"connection": how}} for name, how in connections.items()]
    upstream.routes["/apis/syncline.io/v1alpha1/synctargets"] = {"items": items}
    upstream.routes["/api/v1/namespaces/kube-system"] = {"metadata": {"uid": "hub"}}
    done = cli("target", "remove", "--all")
    assert done.code == 0, done.err
    assert "Targets removed: far, near, odd." in done.out
    assert "On near, odd remains ServiceAccount syncline-system/" in done.out
