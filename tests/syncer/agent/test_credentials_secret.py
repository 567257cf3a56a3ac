"""An agent's folder that outlives its Pod: what is kept in the Secret, when, and which of the two counts."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from syncer.agent import credentials as credentials_module
from syncer.agent import joining as joining_module
from syncer.agent.credentials import AgentCredentials, Unusable, keep_renewed, save
from syncer.agent.credentials_secret import CredentialsSecret
from syncer.agent.joining import join
from syncer.agent.process import read_token
from syncer.api.shapes import JoinAnswer
from syncer.cli.app import main
from syncer.errors import StartError, TransientError
from syncer.hub.agent_certificates import LIFETIME, check_request, issue
from syncer.kube.errors import NotFound
from tests.syncer.agent.test_joining import AGENTS, NOW, asked, folder, issued

__all__ = ["folder"]  # a fixture


class Cluster:
    """An API server with one Secret."""

    def __init__(self, data: dict[str, str] | None) -> None:
        self.data = data
        self.error: Exception | None = None

    async def get_json(self, path: str) -> dict[str, Any]:
        if self.data is None:
            raise NotFound(404, "NotFound", path)
        return {"data": self.data} if self.data else {}

    async def request(self, method: str, path: str, *, body: bytes, content_type: str) -> Any:
        assert (method, path) == ("PATCH", "/api/v1/namespaces/edge/secrets/agent")
        assert content_type == "application/merge-patch+json"
        if self.error is not None:
            raise self.error
        assert self.data is not None
        for name, value in orjson.loads(body)["data"].items():
            if value is None:
                self.data.pop(name, None)
            else:
                self.data[name] = value
        return SimpleNamespace(status=200)


def kept(cluster: Cluster) -> CredentialsSecret:
    client: Any = cluster
    return CredentialsSecret(client, "edge", "agent")


async def test_a_new_folder_is_filled_with_what_was_saved(folder: Path, tmp_path: Path) -> None:
    cluster = Cluster({"pending.key": "b2xk"})
    await kept(cluster).save(folder)
    assert set(cluster.data or ()) == {"agent.pem", "agent.json", "hub-ca.crt"}
    new = tmp_path / "new"
    await kept(cluster).restore(new)
    assert AgentCredentials(new).target == "east"
    assert (new / "agent.pem").read_bytes() == (folder / "agent.pem").read_bytes()
    assert (new / "agent.pem").stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_holds_something_is_the_newer_one(folder: Path) -> None:
    """The process ended between a renewal and the write of the Secret, and its container started again."""
    cluster = Cluster({})
    await kept(cluster).save(folder)
    save(folder, *issued(now=NOW + timedelta(days=20)))
    renewed = (folder / "agent.pem").read_bytes()
    await kept(cluster).restore(folder)
    assert (folder / "agent.pem").read_bytes() == renewed


@pytest.mark.parametrize(
    ("data", "said"), [(None, "Secret edge/agent does not exist"), ({"agent.pem": "%"}, "agent.pem is no base64")]
)
async def test_a_secret_that_is_missing_or_damaged_is_told(
    tmp_path: Path, data: dict[str, str] | None, said: str
) -> None:
    with pytest.raises(Unusable, match=said):
        await kept(Cluster(data)).restore(tmp_path / "new")


async def test_an_empty_secret_is_no_credentials_yet(tmp_path: Path) -> None:
    await kept(Cluster({})).restore(tmp_path / "new")
    with pytest.raises(Unusable, match="holds no credentials"):
        AgentCredentials(tmp_path / "new")


async def test_the_key_is_kept_before_the_hub_binds_the_token_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Pod that ends while somebody thinks about its approval would else have used up its token for nothing."""
    cluster, new = Cluster({}), tmp_path / "new"
    secret = kept(cluster)
    at_the_question: dict[str, str] = {}

    async def pin(*_: Any) -> bytes:
        return AGENTS.certificate

    async def approved(_: Any, key: Any, *__: Any) -> JoinAnswer:
        at_the_question.update(cluster.data or {})
        public = check_request(credentials_module.certificate_request(key, "east"), "east")
        made = issue(AGENTS, public, target="east", cluster_uid="u1", registration_uid="r", generation=1, now=NOW)
        return JoinAnswer(phase="Approved", registration="east-1", generation=1, certificate=made.decode())

    monkeypatch.setattr(joining_module, "check_hash", lambda _: None)
    monkeypatch.setattr(joining_module, "pin", pin)
    monkeypatch.setattr(joining_module, "_approved", approved)
    await join(asked(new), lambda _: None, keep=lambda: secret.save(new))
    assert set(at_the_question) == {"pending.key", "hub-ca.crt"}
    assert set(cluster.data or ()) == {"agent.pem", "agent.json", "hub-ca.crt"}


async def test_a_renewed_certificate_is_kept_and_that_is_tried_until_it_works(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """One renewal, three tries to keep it: the certificate is not asked for anew each time."""
    cluster, renewals = Cluster({}), 0
    cluster.error = TransientError("the API server is away")
    now = NOW + LIFETIME * 0.75

    async def renew(credentials: AgentCredentials, **_: Any) -> None:
        nonlocal renewals
        renewals += 1
        save(credentials.folder, *issued(now=now))

    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            cluster.error = None
        if cluster.data:
            raise asyncio.CancelledError

    monkeypatch.setattr(credentials_module, "renew", renew)
    keep: Callable[[], Awaitable[None]] = lambda: kept(cluster).save(folder)  # noqa: E731
    with pytest.raises(asyncio.CancelledError):
        await keep_renewed(
            AgentCredentials(folder), hubs=lambda: ["https://hub:1"], now=lambda: now, sleep=sleep, keep=keep
        )
    assert renewals == 1
    assert base64.b64decode((cluster.data or {})["agent.pem"]) == (folder / "agent.pem").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--token-file", "t", "--target", "east"], "--token-file, --ca-hash and --target go together"),
        (["--token-file", "t", "--ca-hash", "h", "--target", "east"], "go together, with --hub"),
        (["--credentials-secret", "agent"], "--credentials-secret must be NAMESPACE/NAME"),
        (["--credentials-secret", "a/b/c"], "--credentials-secret must be NAMESPACE/NAME"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "--credentials", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err.splitlines()[0]


def test_a_token_file_that_holds_no_token_is_told_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert read_token(path) == ""
    path.write_text("\n")
    assert read_token(path) == ""
    path.write_text("c4n4ry\n")
    with pytest.raises(StartError, match="holds no bootstrap token") as told:
        read_token(path)
    assert "c4n4ry" not in f"{told.value}{told.value.hint}"
    path.write_text(f"{'0' * 12}.{'A' * 43}\n")
    assert read_token(path) == f"{'0' * 12}.{'A' * 43}"
