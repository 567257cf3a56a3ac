"""`status`, `explain` and `pods`, asked from a fake hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer.cli import insight
from syncer.cli.hub import hub_access
from syncer.kube.kubeconfig import Access
from tests.syncer.cli.conftest import TOKEN, FakeServer, Result
from tests.syncer.cli.test_app import assert_two_lines

Cli = Callable[..., Result]
PROBLEMS = "/api/v1/problems"
WEB = "deployments.apps/shop/web"
PROBLEM = {"object": "apps/v1/Deployment/shop/web", "namespace": "shop", "target": "west", "reason": "ImmutableField"}
HUB_CONFIGMAP = "/api/v1/namespaces/syncline-system/configmaps/syncline-hub"


def test_status_is_zero_when_everything_is_in_sync(cli: Cli, hub: FakeServer) -> None:
    hub.routes[PROBLEMS] = {"items": []}
    assert cli("status") == Result(0, "Everything is in sync.\n", "")
    assert hub.asked[0].query == {}


def test_status_is_one_when_anything_is_not_and_says_what_to_do(cli: Cli, hub: FakeServer) -> None:
    hub.routes[PROBLEMS] = {"items": [PROBLEM], "omitted": 0, "a field of a newer hub": 1}
    result = cli("status", "-n", "shop")
    assert result.code == 1
    assert "Deployment/web" in result.out
    assert "onImmutable" in result.out
    assert hub.asked[0].query == {"namespace": ["shop"]}


def test_the_hub_is_asked_with_the_callers_own_credential(cli: Cli, hub: FakeServer) -> None:
    hub.routes[PROBLEMS] = {}
    cli("status")
    assert hub.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(("flag", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_problems_are_data_for_programs(cli: Cli, hub: FakeServer, flag: str, load: Callable[[str], Any]) -> None:
    hub.routes[PROBLEMS] = {"items": [PROBLEM]}
    result = cli("status", "-o", flag)
    assert result.code == 1
    assert load(result.out)["items"][0]["reason"] == "ImmutableField"


def test_an_object_is_found_by_its_short_name_in_the_namespace_of_the_context(cli: Cli, hub: FakeServer) -> None:
    hub.routes[f"/api/v1/status/{WEB}"] = {
        "object": "apps/v1/Deployment/shop/web",
        "generation": 2,
        "targets": [{"name": "east", "health": "Healthy", "counters": {"replicas": 3}, "age_seconds": 1.5}],
    }
    result = cli("status", "deploy/web")
    assert result.code == 0
    assert "east     Healthy   replicas=3" in result.out


def test_cluster_scoped_objects_have_a_dash_for_a_namespace(cli: Cli, hub: FakeServer) -> None:
    hub.routes["/api/v1/explain/namespaces/-/shop"] = {"object": "v1/Namespace/shop"}
    assert cli("explain", "ns/shop", "-n", "other").code == 0


def test_explain_and_pods_ask_about_the_object(cli: Cli, hub: FakeServer) -> None:
    hub.routes[f"/api/v1/explain/{WEB}"] = {"object": "apps/v1/Deployment/shop/web", "generation": 7}
    hub.routes[f"/api/v1/pods/{WEB}"] = {"items": [{"target": "east", "name": "web-1", "reason": "CrashLoopBackOff"}]}
    assert "generation 7" in cli("explain", "deployments.apps/web").out
    shown = cli("pods", "Deployment/web").out
    assert "CrashLoopBackOff" in shown
    assert "Read the container's last output" in shown


def test_an_object_that_does_not_exist_is_named_with_its_namespace(cli: Cli, hub: FakeServer) -> None:
    result = cli("explain", "deploy/wbe")
    assert_two_lines(result, 1)
    assert "upstream has no deployments.apps/wbe in namespace shop" in result.err


def test_an_object_that_nothing_places_is_told_apart_from_one_that_does_not_exist(
    cli: Cli, hub: FakeServer, upstream: FakeServer
) -> None:
    upstream.routes["/apis/apps/v1/namespaces/shop/deployments/web"] = {"kind": "Deployment"}
    result = cli("status", "deploy/web")
    assert_two_lines(result, 1)
    assert "exists upstream, but the operator does not know it" in result.err


def test_a_misspelled_kind_is_corrected(cli: Cli, hub: FakeServer) -> None:
    result = cli("status", "deploymnt/web")
    assert_two_lines(result, 1)
    assert "Did you mean deployment?" in result.err


def test_without_an_operator_the_answer_says_how_to_start_one(cli: Cli, upstream: FakeServer) -> None:
    result = cli("status")
    assert_two_lines(result, 1)
    assert "syncline operator" in result.err


def test_a_hub_that_is_down_is_named(cli: Cli, hub: FakeServer) -> None:
    result = cli("status", "--hub", "https://127.0.0.1:9")
    assert_two_lines(result, 1)
    assert "the hub https://127.0.0.1:9 cannot be reached" in result.err


def test_a_hub_with_another_certificate_is_not_trusted(cli: Cli, hub: FakeServer, upstream: FakeServer) -> None:
    """S60: the credential is not sent."""
    import trustme

    upstream.routes[HUB_CONFIGMAP]["data"]["caBundle"] = trustme.CA().cert_pem.bytes().decode()
    result = cli("status")
    assert_two_lines(result, 1)
    assert "not trusted" in result.err
    assert hub.asked == []


@pytest.mark.parametrize(
    ("code", "words"), [(401, "does not accept"), (403, "may not"), (503, "in a moment"), (500, "log")]
)
def test_refusals_of_the_hub_are_two_lines(cli: Cli, hub: FakeServer, code: int, words: str) -> None:
    message = "you may not look" if code == 403 else "later"
    hub.routes[PROBLEMS] = (code, {"kind": "Status", "code": code, "reason": "X", "message": message})
    result = cli("status")
    assert_two_lines(result, 1)
    assert words in result.err


def test_something_that_is_no_hub_is_recognised(cli: Cli, hub: FakeServer) -> None:
    hub.routes[PROBLEMS] = ["x"]
    result = cli("status")
    assert_two_lines(result, 1)
    assert "something else than a hub" in result.err


def test_a_caller_who_may_not_read_where_the_hub_is_learns_the_way(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[HUB_CONFIGMAP] = (403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"})
    result = cli("status")
    assert_two_lines(result, 1)
    assert "deploy/rbac/users.yaml" in result.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:8443", "hub", "https://u:p@hub", "ftp://x", "https://"])
def test_a_credential_never_leaves_in_clear_text(cli: Cli, upstream: FakeServer, url: str) -> None:
    result = cli("status", "--hub", url)
    assert_two_lines(result, 2)
    assert [asked for asked in upstream.asked if "/problems" in asked.path] == []


@pytest.mark.parametrize("data", [{}, {"url": "http://x"}, {"url": "https://x", "caBundle": "§"}])
def test_a_broken_publication_is_told(cli: Cli, upstream: FakeServer, data: dict[str, str]) -> None:
    upstream.routes[HUB_CONFIGMAP] = {"data": data}
    result = cli("status")
    assert_two_lines(result, 1)
    assert "restart the operator" in result.err


def test_the_hub_keeps_the_callers_credential_but_not_its_name_or_proxy() -> None:
    upstream = Access("https://up", tls_server_name="up.internal", proxy="http://proxy")
    found = hub_access(upstream, "https://hub:8443/", {"caBundle": "-----BEGIN CERTIFICATE-----"})
    assert (found.server, found.tls_server_name, found.proxy) == ("https://hub:8443", None, None)
    assert found.ca is not None
    assert hub_access(upstream, "https://hub", {}).ca is None


def test_watch_prints_again_only_when_something_else_than_ages_changed(
    cli: Cli, hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(health: str, age: float) -> dict[str, Any]:
        return {
            "object": "apps/v1/Deployment/shop/web",
            "targets": [{"name": "e", "health": health, "age_seconds": age}],
        }

    busy = (503, {"kind": "Status", "code": 503, "reason": "X", "message": "starting"})
    answers = [state("Progressing", 1), state("Progressing", 2), busy, state("Healthy", 1), state("Healthy", 2)]
    hub.routes[f"/api/v1/status/{WEB}"] = answers

    async def next_look(_: float) -> None:
        if len(hub.asked) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(insight, "asyncio", type("Clock", (), {"sleep": staticmethod(next_look)}))
    result = cli("status", "deploy/web", "--watch")
    assert result.code == 130
    assert result.out.count("Progressing") == 1
    assert result.out.count("Healthy") == 1
    assert result.out.count("No answer now: the hub") == 1


def test_watch_as_json_prints_one_document_per_change(
    cli: Cli, hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.routes[PROBLEMS] = [{"items": []}, {"items": [PROBLEM]}]

    async def next_look(_: float) -> None:
        if len(hub.asked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(insight, "asyncio", type("Clock", (), {"sleep": staticmethod(next_look)}))
    shown = cli("status", "-w", "-o", "json").out
    first, second = (json.loads(part) for part in shown.replace("}\n{", "}\0{").split("\0"))
    assert (first["items"], second["items"][0]["target"]) == ([], "west")


def test_files_of_kubeconfig_are_merged_and_missing_ones_skipped(
    cli: Cli, hub: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((tmp_path / "upstream.yaml").read_text())
    users = {"users": config.pop("users")}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(users))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a.yaml:{tmp_path}/none.yaml:{tmp_path}/b.yaml")
    hub.routes[PROBLEMS] = {}
    assert cli("status").code == 0
