"""`make demo` and `make down`, as a newcomer runs them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from deploy.local.assets import find
from deploy.local.demo import AGENT, OPERATOR, REPOSITORY, TUNNELLED, Demo, Shell, _ready, pipeline
from deploy.local.errors import GroundError
from deploy.local.fleet import Fleet
from syncer.agent.policy import parse_policy
from syncer.agent.role import default_policy


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_a_shown_line_is_run_as_words_and_pipes_without_a_shell(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is expanded, and the first command that fails ends the line."""
    assert pipeline("a 'b c' | d") == [(["a", "b c"], False), (["d"], True)]
    shell = Shell(cast(Fleet, SimpleNamespace(assets=tmp_path, kubeconfig=tmp_path / "kubeconfig")))
    shell.show("printf '%s $HOME *\\n' 'a  b' | tr a-z A-Z")
    assert capfd.readouterr().out.endswith("A  B $HOME *\n")
    shell.show("printenv KUBECONFIG")
    assert capfd.readouterr().out.endswith(f"{tmp_path}/kubeconfig\n")
    with pytest.raises(GroundError, match=r"`false \| printf never` failed"):
        shell.show("false | printf never")
    assert capfd.readouterr().out == "$ false | printf never\n"
    assert shell.ask("printf secret") == b"secret"
    reading = shell.start("cat", given="on standard input")
    assert reading.wait() == 0
    assert capfd.readouterr().out == "$ printf secret\n$ cat &\non standard input\n"


def test_readiness_is_asked_past_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            assert _ready(f"http://127.0.0.1:{server.server_port}/readyz")
        finally:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", server.server_port), 1).close()  # ends a server nobody asked
            thread.join(10)


def test_the_policy_of_the_agent_is_the_default_and_the_shop_s_own_kind() -> None:
    example = parse_policy((REPOSITORY / TUNNELLED / "agent-policy.yaml").read_bytes())
    default = default_policy()
    assert example.sync[0].resources == ("*.shop.example",)
    assert replace(example, sync=example.sync[1:]) == default


class Noted:
    """A shell that does nothing, and knows what it was told."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, command: str) -> None:
        self.shown.append(command)

    def ask(self, command: str) -> bytes:
        return json.dumps({"hub": "https://127.0.0.1:1", "token": "id1.secret", "caHash": "sha256:0"}).encode()

    def start(self, command: str, *, given: str) -> SimpleNamespace:
        return SimpleNamespace(wait=lambda: 0, kill=lambda: None)


def test_what_an_interrupted_run_asked_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """Its registration may still wait for an answer, and an approval without a name would not say which one."""
    west = SimpleNamespace(kubeconfig=tmp_path / "kubeconfig")
    shell = Noted()
    Demo(tmp_path).join(cast(Fleet, SimpleNamespace(folder=tmp_path, targets={"west": west})), cast(Shell, shell))
    assert shell.shown[-1] == "syncline approve west --registration west-id1"


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_demo_runs_twice_and_down_leaves_nothing(tmp_path: Path) -> None:
    """Applied once, it runs on two clusters; the second run finds it all; nothing is left at the end."""
    assert find(os.environ, note=lambda line: None) is not None, "run `make assets` once"
    folder = tmp_path / "fleet"
    try:
        first = run("deploy.local.demo", "--dir", folder)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "deployment.apps/web   6/6" in first.stdout
        assert "deployment.apps/web   4/4" in first.stdout
        assert "deployment.apps/web   2/2" in first.stdout
        assert "mirror.example/library/nginx:1.27   us" in first.stdout
        assert "nginx:1.27   eu" in first.stdout
        assert "Everything is in sync." in first.stdout
        assert f"make down DIR={folder}" in first.stdout
        fleet = Fleet.load(folder)
        config = fleet.kubectl("west", "-n", "shop", "get", "configmap", "web", "-o", "json")
        assert json.loads(config.stdout)["data"]["currency"] == "USD"
        for name in (OPERATOR, AGENT):
            process = fleet.table.read(name)
            assert process is not None
            assert process.alive
        secrets = fleet.kubectl("upstream", "-n", "syncline-system", "get", "secrets", "-o", "name").stdout.split()
        assert "secret/east" in secrets
        assert "secret/west" not in secrets
        second = run("deploy.local.demo", "--dir", folder)
        assert second.returncode == 0, second.stdout + second.stderr
        assert "it has joined already" in second.stdout
    finally:
        started = Fleet.load(folder).table.records() if (folder / "fleet.json").exists() else []
        ended = run("deploy.local", "down", "--dir", folder)
    assert ended.returncode == 0, ended.stderr
    assert started
    assert not [record.name for record in started if record.alive]
