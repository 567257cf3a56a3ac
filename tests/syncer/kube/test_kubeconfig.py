"""Kubeconfigs: what is read, and what is refused when it came out of a Secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import TerminalError
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import SIZE_LIMIT, check_server, is_metadata_host, parse_kubeconfig

CANARY = "canary-4711"


@pytest.fixture(scope="module")
def ca_pem() -> str:
    return trustme.CA().cert_pem.bytes().decode()


def config(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [
            {"name": "it", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "nope"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.1.2.3:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }


def text(document: Any) -> bytes:
    return yaml.safe_dump(document).encode()


def b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@pytest.fixture
def good(ca_pem: str) -> dict[str, Any]:
    return config({"certificate-authority-data": b64(ca_pem)}, {"token": CANARY})


def test_a_self_contained_kubeconfig_is_accepted_from_a_secret(good: dict[str, Any]) -> None:
    credentials = ClusterCredentials.from_untrusted_kubeconfig(text(good))
    assert credentials.server == "https://10.1.2.3:6443"
    assert credentials.untrusted
    assert CANARY not in repr(credentials.__dict__)


def test_a_tls_server_name_is_accepted_from_a_secret(good: dict[str, Any]) -> None:
    good["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes.default"
    assert ClusterCredentials.from_untrusted_kubeconfig(text(good)).tls_server_name == "kubernetes.default"


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        pytest.param(lambda c, u: u.update(exec={"command": "/bin/touch"}), "user.exec", id="exec"),
        pytest.param(
            lambda c, u: u.update({"auth-provider": {"name": "gcp"}}), "user.auth-provider", id="auth-provider"
        ),
        pytest.param(lambda c, u: u.update(tokenFile="/etc/shadow"), "user.tokenFile", id="token file"),
        pytest.param(
            lambda c, u: u.update({"client-certificate": "/x"}), "user.client-certificate", id="certificate file"
        ),
        pytest.param(lambda c, u: u.update({"client-key": "/x"}), "user.client-key", id="key file"),
        pytest.param(
            lambda c, u: c.update({"certificate-authority": "/x"}), "cluster.certificate-authority", id="CA file"
        ),
        pytest.param(lambda c, u: c.update(server="http://10.1.2.3"), "cluster.server", id="http"),
        pytest.param(lambda c, u: c.update(server="http://127.0.0.1"), "cluster.server", id="http on loopback"),
        pytest.param(lambda c, u: c.update(server="https://169.254.169.254"), "cluster.server", id="metadata"),
        pytest.param(lambda c, u: c.update(server="https://user:pw@10.0.0.1"), "cluster.server", id="userinfo"),
        pytest.param(lambda c, u: c.update({"insecure-skip-tls-verify": True}), "insecure-skip-tls-verify", id="skip"),
        pytest.param(lambda c, u: c.pop("certificate-authority-data"), "certificate-authority-data", id="no CA"),
        pytest.param(lambda c, u: c.update({"certificate-authority-data": "!!"}), "is not base64", id="CA not base64"),
        pytest.param(lambda c, u: c.update({"certificate-authority-data": b64("x")}), "no PEM", id="CA no PEM"),
        pytest.param(lambda c, u: c.update({"proxy-url": "http://10.0.0.1"}), "cluster.proxy-url", id="proxy"),
        pytest.param(lambda c, u: u.update({"client-key-data": b64(CANARY)}), "belong together", id="key alone"),
        pytest.param(
            lambda c, u: u.update({"client-key-data": b64(CANARY), "client-certificate-data": b64(CANARY)}),
            "no PEM pair",
            id="no pair",
        ),
        pytest.param(lambda c, u: u.update({"as": "system:admin"}), "user.as", id="impersonation"),
        pytest.param(lambda c, u: u.update(username="x", password=CANARY), "user.password", id="basic auth"),
        pytest.param(lambda c, u: c.update(novel=1), "cluster.novel", id="unknown field"),
        pytest.param(lambda c, u: u.update(token=7), "must be text", id="token no text"),
    ],
)
def test_what_a_secret_may_not_say_is_refused_by_name(
    good: dict[str, Any], edit: Callable[[Any, Any], Any], names: str, tmp_path: Path
) -> None:
    """B29, P17: the message names the field and repeats no credential."""
    edit(good["clusters"][0]["cluster"], good["users"][0]["user"])
    with pytest.raises(TerminalError) as caught:
        ClusterCredentials.from_untrusted_kubeconfig(text(good))
    assert names in str(caught.value)
    assert CANARY not in str(caught.value)
    assert b64(CANARY) not in str(caught.value)
    assert caught.value.reason == "Invalid"


def test_nothing_that_an_exec_plugin_names_is_run(good: dict[str, Any], tmp_path: Path) -> None:
    """B29."""
    proof = tmp_path / "ran"
    good["users"][0]["user"] = {"exec": {"command": "touch", "args": [str(proof)]}}
    with pytest.raises(TerminalError):
        ClusterCredentials.from_untrusted_kubeconfig(text(good))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", "not a kubeconfig"),
        (b"[]", "not a kubeconfig"),
        (b"a: [", "not YAML"),
        (b"!!python/object/apply:os.system ['true']", "not YAML"),
        (b"\x00\xff", "not YAML"),
        (b"x" * (SIZE_LIMIT + 1), "larger than"),
        (b"{}", "current-context"),
        (b"current-context: it", "has no context 'it'"),
        (b"{current-context: it, contexts: [1]}", "contexts"),
        (b"{current-context: it, contexts: [{name: it, context: {cluster: c}}]}", "has no cluster 'c'"),
        (b"{current-context: it, contexts: [{name: it}]}", "has no cluster"),
        (
            b"{current-context: it, contexts: [{name: it, context: {cluster: c}}], clusters: [{name: c, cluster: {}}]}",
            "has no user",
        ),
    ],
)
def test_what_is_no_kubeconfig_is_refused_in_one_line(data: bytes, names: str) -> None:
    """B38."""
    with pytest.raises(TerminalError) as caught:
        parse_kubeconfig(data)
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_no_document_makes_the_parser_fail_in_another_way(document: Any) -> None:
    for place in ("clusters", "users", "contexts"):
        broken = {**config(), place: document}
        try:
            parse_kubeconfig(json.dumps(broken).encode(), untrusted=True)
        except TerminalError:
            continue
        raise AssertionError("accepted without a CA")


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "::ffff:169.254.169.254",
        "[fe80::1%25eth0]",
        "fd00:ec2::254",
        "100.100.100.200",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "0.0.0.0",
    ],
)
def test_metadata_addresses_are_known_in_every_spelling(host: str) -> None:
    """S20, S22."""
    assert is_metadata_host(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "::1", "api.example.com", "169.253.0.1", "localhost"])
def test_other_addresses_are_none(host: str) -> None:
    assert not is_metadata_host(host)


@pytest.mark.parametrize(
    "server",
    [
        "",
        None,
        7,
        "https://",
        "ftp://x",
        "https://x:0",
        "https://x:99999",
        "x",
        "https://x?a=b",
        "https://x#f",
        "https://[x",
    ],
)
def test_addresses_that_are_none_are_refused(server: Any) -> None:
    with pytest.raises(TerminalError, match=r"cluster\.server"):
        check_server(server, untrusted=False)


def test_plain_http_is_for_this_machine_only() -> None:
    assert check_server("http://127.0.0.1:8001/", untrusted=False) == "http://127.0.0.1:8001"
    assert check_server("http://localhost:8001", untrusted=False)
    with pytest.raises(TerminalError):
        check_server("http://10.0.0.1", untrusted=False)


def test_files_are_relative_to_their_kubeconfig_and_the_first_definition_wins(tmp_path: Path) -> None:
    one = config(
        {"certificate-authority": "ca.pem"}, {"tokenFile": "sub/token", "exec": {"command": "./plugin", "args": ["a"]}}
    )
    two = config({"server": "https://ignored"}, {"token": "ignored"})
    two["contexts"].append({"name": "more", "context": {"cluster": "c", "user": "u"}})
    access = parse_kubeconfig([(text(one), tmp_path), (text(two), Path("/elsewhere"))], context="more")
    assert access.server == "https://10.1.2.3:6443"
    assert access.ca is not None
    assert access.token is not None
    assert access.plugin is not None
    assert (access.ca.path, access.token.path) == (tmp_path / "ca.pem", tmp_path / "sub/token")
    assert access.plugin.command == str(tmp_path / "plugin")


def test_an_unknown_context_names_the_known_ones() -> None:
    with pytest.raises(TerminalError, match="it has: it, other"):
        parse_kubeconfig(text(config()), context="nope")


def test_skipping_verification_is_refused_even_for_ones_own_file() -> None:
    """S60."""
    with pytest.raises(TerminalError, match="never accepted"):
        parse_kubeconfig(text(config({"insecure-skip-tls-verify": True})))


def test_an_exec_entry_without_a_command_is_refused() -> None:
    with pytest.raises(TerminalError, match="needs a command"):
        parse_kubeconfig(text(config(user={"exec": {"args": []}})))
