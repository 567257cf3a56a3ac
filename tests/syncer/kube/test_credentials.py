"""Credentials that are refreshed: token files, certificates, exec plugins."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from syncer.errors import TerminalError
from syncer.kube import credentials as module
from syncer.kube.credentials import ClusterCredentials, build_context, in_pod
from syncer.kube.errors import Unreachable
from syncer.kube.kubeconfig import Access, ExecPlugin, Source


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


async def test_a_static_token_never_needs_a_refresh_and_a_rejection_finds_nothing_new(clock: Clock) -> None:
    credentials = ClusterCredentials(Access("http://127.0.0.1", token=Source(b"canary")), clock=clock)
    first = await credentials.grant()
    clock.now += 1e6
    assert first.authorization == "Bearer canary"
    assert await credentials.grant() is first
    assert await credentials.grant(rejected=first) is first
    assert "canary" not in repr(first)


async def test_a_token_file_is_read_again_after_a_minute(clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    credentials = ClusterCredentials(Access("http://127.0.0.1", token=Source(path=file)), clock=clock)
    first = await credentials.grant()
    file.write_text("two\n")
    clock.now += 59
    assert await credentials.grant() is first
    clock.now += 2
    assert (await credentials.grant()).authorization == "Bearer two"


async def test_a_rejected_token_file_is_read_again_at_once_and_only_once(clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    credentials = ClusterCredentials(Access("http://127.0.0.1", token=Source(path=file)), clock=clock)
    first = await credentials.grant()
    file.write_text("two")
    grants = await asyncio.gather(*(credentials.grant(rejected=first) for _ in range(5)))
    assert {grant.authorization for grant in grants} == {"Bearer two"}
    assert len({id(grant) for grant in grants}) == 1


async def test_an_unreadable_file_keeps_the_older_token_and_is_tried_again_soon(clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    credentials = ClusterCredentials(Access("http://127.0.0.1", token=Source(path=file)), clock=clock)
    first = await credentials.grant()
    file.unlink()
    clock.now += 61
    assert await credentials.grant() is first
    file.write_text("two")
    clock.now += 6
    assert (await credentials.grant()).authorization == "Bearer two"


async def test_a_missing_file_at_the_start_is_an_error_that_names_it(tmp_path: Path) -> None:
    credentials = ClusterCredentials(Access("http://127.0.0.1", token=Source(path=tmp_path / "none")))
    with pytest.raises(Unreachable, match="none cannot be read"):
        await credentials.grant()


@pytest.mark.parametrize("token", [b"a b", b"a\r\nX-Evil: 1", "ü".encode()])
async def test_a_token_that_would_break_the_header_is_refused_without_repeating_it(token: bytes) -> None:
    """P17."""
    credentials = ClusterCredentials(Access("http://127.0.0.1", token=Source(token)))
    with pytest.raises(TerminalError) as caught:
        await credentials.grant()
    assert token.decode() not in str(caught.value)


async def test_a_changed_certificate_makes_a_new_context_and_an_unchanged_one_does_not(
    clock: Clock, tmp_path: Path, ca: trustme.CA
) -> None:
    def write(identity: trustme.LeafCert) -> None:
        (tmp_path / "crt").write_bytes(identity.cert_chain_pems[0].bytes())
        (tmp_path / "key").write_bytes(identity.private_key_pem.bytes())

    write(ca.issue_cert("a@x"))
    access = Access(
        "https://127.0.0.1",
        ca=Source(ca.cert_pem.bytes()),
        certificate=Source(path=tmp_path / "crt"),
        key=Source(path=tmp_path / "key"),
    )
    credentials = ClusterCredentials(access, clock=clock)
    first = await credentials.grant()
    clock.now += 61
    assert await credentials.grant() is first
    write(ca.issue_cert("b@x"))
    clock.now += 61
    second = await credentials.grant()
    assert second.context is not None
    assert second.context is not first.context
    (tmp_path / "crt").write_text("half written")
    clock.now += 61
    assert await credentials.grant() is second


def test_contexts_check_names_and_trust_one_authority_only(ca: trustme.CA) -> None:
    """S60."""
    context = build_context(ca.cert_pem.bytes(), None, None)
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"
    assert context.cert_store_stats()["x509_ca"] == 1


def test_without_an_authority_the_systems_are_trusted() -> None:
    assert build_context(None, None, None).check_hostname


@pytest.mark.parametrize("memory", [True, False])
def test_keys_are_loaded_without_leaving_a_file(
    memory: bool, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """S53."""
    seen: list[int] = []
    real: Any = tempfile.NamedTemporaryFile

    def watched(*args: Any, **kwargs: Any) -> Any:
        file = real(*args, dir=tmp_path, **kwargs)
        seen.append(stat.S_IMODE(os.stat(file.name).st_mode))
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", watched)
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    leaf = ca.issue_cert("a@x")
    build_context(ca.cert_pem.bytes(), leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())
    assert list(tmp_path.iterdir()) == []
    assert seen == ([] if memory and hasattr(os, "memfd_create") else [0o600])


def test_a_key_of_another_certificate_is_refused(ca: trustme.CA) -> None:
    one, two = ca.issue_cert("a@x"), ca.issue_cert("b@x")
    with pytest.raises(TerminalError, match="belongs together"):
        build_context(ca.cert_pem.bytes(), one.cert_chain_pems[0].bytes(), two.private_key_pem.bytes())


def plugin(tmp_path: Path, body: str) -> ExecPlugin:
    script = tmp_path / "plugin.py"
    script.write_text(f"import json, os, sys\n{body}\n")
    return ExecPlugin(
        "client.authentication.k8s.io/v1", sys.executable, (str(script),), env={"EXTRA": "e"}, provide_cluster_info=True
    )


def says(status: dict[str, Any]) -> str:
    return f"print(json.dumps({{'kind': 'ExecCredential', 'status': {status!r}}}))"


async def test_a_plugin_runs_again_shortly_before_its_token_expires(clock: Clock, tmp_path: Path) -> None:
    expiry = (datetime.now(UTC) + timedelta(seconds=600)).isoformat().replace("+00:00", "Z")
    body = f"""
n = int(open({str(tmp_path / "n")!r}).read()) + 1
open({str(tmp_path / "n")!r}, 'w').write(str(n))
info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])
assert os.environ['EXTRA'] == 'e' and info['spec']['cluster']['server'] == 'http://127.0.0.1'
status = {{'token': f'token-{{n}}', 'expirationTimestamp': {expiry!r}}}
print(json.dumps({{'kind': 'ExecCredential', 'status': status}}))
"""
    (tmp_path / "n").write_text("0")
    credentials = ClusterCredentials(Access("http://127.0.0.1", plugin=plugin(tmp_path, body)), clock=clock)
    first = await credentials.grant()
    clock.now += 500
    assert await credentials.grant() is first
    clock.now += 100
    assert (await credentials.grant()).authorization == "Bearer token-2"
    assert first.authorization == "Bearer token-1"


async def test_a_plugin_may_give_a_certificate(tmp_path: Path, ca: trustme.CA) -> None:
    leaf = ca.issue_cert("a@x")
    pair = {
        "clientCertificateData": leaf.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": leaf.private_key_pem.bytes().decode(),
    }
    access = Access("https://127.0.0.1", ca=Source(ca.cert_pem.bytes()), plugin=plugin(tmp_path, says(pair)))
    grant = await ClusterCredentials(access).grant()
    assert grant.authorization is None
    assert grant.context is not None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("print('canary'); print('canary', file=sys.stderr); sys.exit(3)", "ended with status 3"),
        ("print('canary')", "did not print an ExecCredential"),
        (says({}), "neither a token nor a certificate"),
        (says({"token": 7}), "did not print"),
        (says({"token": "canary", "expirationTimestamp": "soon"}), "did not print"),
    ],
)
async def test_a_plugin_that_fails_is_named_and_its_output_is_not_repeated(tmp_path: Path, body: str, why: str) -> None:
    """P17."""
    credentials = ClusterCredentials(Access("http://127.0.0.1", plugin=plugin(tmp_path, body)))
    with pytest.raises(Unreachable, match=why) as caught:
        await credentials.grant()
    assert "canary" not in str(caught.value)


async def test_a_plugin_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLUGIN_TIMEOUT_SECONDS", 0.05)
    credentials = ClusterCredentials(Access("http://127.0.0.1", plugin=plugin(tmp_path, "import time; time.sleep(60)")))
    with pytest.raises(Unreachable, match="did not end"):
        await credentials.grant()


async def test_a_plugin_that_does_not_exist_is_named() -> None:
    credentials = ClusterCredentials(Access("http://127.0.0.1", plugin=ExecPlugin("v1", "/no/such/plugin")))
    with pytest.raises(Unreachable, match="cannot be started"):
        await credentials.grant()


async def test_the_kubeconfig_of_this_user_is_found_through_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:8001"}}
    context = {"name": "it", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}
    document = {"current-context": "it", "clusters": [cluster], "contexts": [context]}
    (tmp_path / "one").write_text(yaml.safe_dump(document))
    (tmp_path / "two").write_text(json.dumps({"users": [{"name": "u", "user": {"token": "t"}}]}))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(tmp_path / name) for name in ("one", "missing", "two")))
    credentials = ClusterCredentials.from_kubeconfig()
    assert (await credentials.grant()).authorization == "Bearer t"
    assert credentials._access.namespace == "shop"
    with pytest.raises(TerminalError, match="missing does not exist"):
        ClusterCredentials.from_kubeconfig(tmp_path / "missing")
    with pytest.raises(TerminalError, match="cannot be read"):
        ClusterCredentials.from_kubeconfig(tmp_path)


async def test_in_a_pod_the_service_account_is_used(tmp_path: Path, ca: trustme.CA) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(TerminalError, match="not in a cluster"):
        ClusterCredentials.in_cluster(environ=environ, folder=tmp_path)
    (tmp_path / "token").write_text("sa")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem.bytes())
    credentials = ClusterCredentials.in_cluster(environ=environ, folder=tmp_path)
    assert credentials.server == "https://[fd00::1]:443"
    assert (await credentials.grant()).authorization == "Bearer sa"
    with pytest.raises(TerminalError, match="not in a cluster"):
        ClusterCredentials.in_cluster(environ={}, folder=tmp_path)
    assert in_pod(environ, tmp_path)
    assert not in_pod(environ, tmp_path / "none")
    assert not in_pod({}, tmp_path)
    assert not in_pod({**environ, "KUBECONFIG": "/elsewhere"}, tmp_path)  # who names one means that one
