"""`kubeconfig --upstream`: of the upstream that the chart hosts."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.syncer.cli.conftest import FakeServer, Result

SECRET = "/api/v1/namespaces/{}/secrets/syncline-upstream-admin"

Cli = Callable[..., Result]


def hosted(server: str = "https://syncline-upstream.syncline-system.svc:6443") -> dict[str, Any]:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "upstream", "cluster": {"server": server, "certificate-authority-data": "QQ=="}}],
        "users": [{"name": "admin", "user": {"client-certificate-data": "QQ==", "client-key-data": "QQ=="}}],
    }
    return {"data": {"kubeconfig": base64.b64encode(yaml.safe_dump(config).encode()).decode()}}


def cluster_of(done: Result) -> dict[str, Any]:
    assert done.code == 0, done.err
    return dict(yaml.safe_load(done.out)["clusters"][0]["cluster"])


def test_the_kubeconfig_is_printed_as_it_is(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[SECRET.format("syncline-system")] = hosted()
    cluster = cluster_of(cli("kubeconfig", "--upstream"))
    assert cluster["server"] == "https://syncline-upstream.syncline-system.svc:6443"
    assert "tls-server-name" not in cluster


def test_another_address_is_checked_for_the_name_of_the_service(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes[SECRET.format("other")] = hosted("https://syncline-upstream.other.svc:6443")
    cluster = cluster_of(cli("kubeconfig", "--upstream", "-n", "other", "--server", "https://127.0.0.1:7443"))
    assert cluster["server"] == "https://127.0.0.1:7443"
    assert cluster["tls-server-name"] == "syncline-upstream.other.svc"


def test_where_no_upstream_is_hosted_it_says_so(cli: Cli, upstream: FakeServer) -> None:
    done = cli("kubeconfig", "--upstream")
    assert done.code == 1
    assert "no upstream is hosted in namespace syncline-system" in done.err
    assert "--context" in done.err


@pytest.mark.parametrize("content", ["", "!!!", base64.b64encode(b"a: [").decode(), base64.b64encode(b"{}").decode()])
def test_a_damaged_secret_is_named_and_not_repeated(cli: Cli, upstream: FakeServer, content: str) -> None:
    upstream.routes[SECRET.format("syncline-system")] = {"data": {"kubeconfig": content}}
    done = cli("kubeconfig", "--upstream")
    assert done.code == 1
    assert done.err.startswith("error: Secret syncline-upstream-admin does not hold a kubeconfig")


@pytest.mark.parametrize("given", [[], ["west", "--upstream"]])
def test_either_a_target_or_the_upstream_is_meant(cli: Cli, given: list[str]) -> None:
    done = cli("kubeconfig", *given)
    assert done.code == 2
    assert "TARGET or --upstream" in done.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["west", "--server", "https://h"], "--server and --namespace go with --upstream"),
        (["west", "-n", "shop"], "--server and --namespace go with --upstream"),
        (["--upstream", "--hub", "https://h"], "--hub goes with a TARGET"),
    ],
)
def test_an_option_without_effect_is_refused(cli: Cli, given: list[str], said: str) -> None:
    done = cli("kubeconfig", *given)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize("server", ["http://127.0.0.1:6443", "127.0.0.1", "https://"])
def test_a_credential_never_leaves_in_clear_text(cli: Cli, upstream: FakeServer, server: str) -> None:
    upstream.routes[SECRET.format("syncline-system")] = hosted()
    done = cli("kubeconfig", "--upstream", "--server", server)
    assert done.code == 2
    assert "https://127.0.0.1:6443" in done.err
