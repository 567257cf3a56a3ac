"""The few requests that bring up a local cluster, made with its admin certificate and the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.errors import GroundError

READY_SECONDS = 120.0  # 1.5 s on an idle machine; many API servers at once on few cores take their time
_POLL_SECONDS = 0.1


class AdminApi:
    """Requests to one API server as admin.

    Args:
        server: `https://HOST:PORT`.
        pki: folder with `ca.crt`, `admin.crt` and `admin.key`.
    """

    def __init__(self, server: str, pki: Path, *, timeout_seconds: float = 10) -> None:
        address = urlsplit(server)
        assert address.hostname
        self._host, self._port, self._timeout = address.hostname, address.port, timeout_seconds
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.load_verify_locations(pki / "ca.crt")
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Return (HTTP status, body).

        Raises:
            OSError: no connection, or no answer in time.
        """
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        try:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{self._host}:{self._port} broke off its answer") from error
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the JSON object below a path, or None when it is not there or not to be had now."""
        try:
            status, body = self.request("GET", path)
        except OSError:
            return None
        return json.loads(body) if status == http.HTTPStatus.OK else None

    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        try:
            return self.request("GET", "/readyz")[0] == http.HTTPStatus.OK
        except OSError:
            return False


def wait_ready(server: str, pki: Path, *, timeout_seconds: float = READY_SECONDS) -> None:
    """Wait until an API server is ready.

    Raises:
        GroundError: it is not, within the time.
    """
    api = AdminApi(server, pki)
    deadline = time.monotonic() + timeout_seconds
    while not api.is_ready():
        if time.monotonic() > deadline:
            raise GroundError(f"{server} was not ready within {timeout_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
