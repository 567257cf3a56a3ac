"""Running command lines in this process, against fake API servers on loopback.

`FakeServer` answers from a table and remembers what it was asked. It lies everywhere else: no watch, no
admission, no versions; what depends on those is tested on real API servers.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
import yaml

from syncer.cli import main

TOKEN = "canary-token-7f3c9a"
DISCOVERY = {
    "kind": "APIGroupDiscoveryList",
    "items": [
        {
            "metadata": {"name": "apps"},
            "versions": [
                {
                    "version": "v1",
                    "resources": [
                        {
                            "resource": "deployments",
                            "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                            "scope": "Namespaced",
                            "singularResource": "deployment",
                            "verbs": ["get", "list", "patch"],
                            "shortNames": ["deploy"],
                        }
                    ],
                }
            ],
        }
    ],
}
CORE_DISCOVERY = {
    "kind": "APIGroupDiscoveryList",
    "items": [
        {
            "metadata": {},
            "versions": [
                {
                    "version": "v1",
                    "resources": [
                        {
                            "resource": "namespaces",
                            "responseKind": {"group": "", "version": "v1", "kind": "Namespace"},
                            "scope": "Cluster",
                            "singularResource": "namespace",
                            "verbs": ["get", "list", "patch"],
                            "shortNames": ["ns"],
                        }
                    ],
                }
            ],
        }
    ],
}


class Result(NamedTuple):
    """What a command line left behind."""

    code: int
    out: str
    err: str


class Asked(NamedTuple):
    """One request that a fake server received."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeServer:
    """Answers from `routes`, {path: JSON, or (status, JSON)}; anything else is a 404 about an object."""

    url: str = ""
    routes: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and JSON for one request."""
        self.asked.append(asked)
        name = asked.path.rpartition("/")[2]
        missing = {"kind": "Status", "code": 404, "reason": "NotFound", "message": f"{name} not found"}
        found = self.routes.get(asked.path, (404, missing | {"details": {"name": name}}))
        if isinstance(found, list):  # one answer after the other
            found = found.pop(0) if len(found) > 1 else found[0]
        return found if isinstance(found, tuple) else (200, found)


def _serve(fake: FakeServer, tls: ssl.SSLContext | None) -> Callable[[], None]:
    """Start a server on a free port; returns what ends it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            asked = Asked(self.command, url.path, parse_qs(url.query), dict(self.headers), body)
            status, content = fake.answer(asked)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_DELETE = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    fake.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run one command line."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def write_kubeconfig(path: Path, server: str, **context: str) -> Path:
    """A kubeconfig with one user, who shows the canary token."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "up", "context": {"cluster": "c", "user": "u", **context}}],
        "current-context": "up",
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A fake upstream in plain HTTP, which is allowed to this machine only; $KUBECONFIG names it, namespace `shop`."""
    fake = FakeServer(routes={"/apis": DISCOVERY, "/api": CORE_DISCOVERY})
    end = _serve(fake, None)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "upstream.yaml", fake.url, namespace="shop")))
    yield fake
    end()


@pytest.fixture
def hub(upstream: FakeServer) -> Iterator[FakeServer]:
    """A fake hub over TLS, published in the upstream's ConfigMap."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    fake = FakeServer()
    end = _serve(fake, tls)
    bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
    upstream.routes["/api/v1/namespaces/syncline-system/configmaps/syncline-hub"] = {
        "data": {"url": fake.url, "caBundle": bundle}
    }
    yield fake
    end()
