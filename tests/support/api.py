"""A plain client of one API server for tests that ask often: one kept connection, JSON in and out, as admin."""

from __future__ import annotations

import functools
import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client, config

from deploy.local.fleet import Cluster

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
PATHS = {
    "namespace": "/api/v1/namespaces",
    "configmap": "/api/v1/configmaps",
    "secret": "/api/v1/secrets",
    "event": "/api/v1/events",
    "pod": "/api/v1/pods",
    "deployment": "/apis/apps/v1/deployments",
    "cronjob": "/apis/batch/v1/cronjobs",
    "lease": "/apis/coordination.k8s.io/v1/leases",
    "validatingwebhookconfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "mutatingwebhookconfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "crd": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "synctarget": "/apis/syncline.io/v1alpha1/synctargets",
    "placement": "/apis/syncline.io/v1alpha1/placements",
}


def path_of(kind: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Path of a collection, an object or its subresource."""
    prefix, _, plural = PATHS[kind].rpartition("/")
    where = f"namespaces/{namespace}/" if namespace else ""
    return "/".join(filter(None, (f"{prefix}/{where}{plural}", name, subresource)))


@functools.lru_cache
def _access(kubeconfig: Path, written_at: float) -> tuple[str, ssl.SSLContext]:
    """(server, TLS with the client certificate) as one version of a kubeconfig says."""
    found = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=found, persist_config=False)  # type: ignore[no-untyped-call]
    assert found.cert_file, f"{kubeconfig} has no client certificate"
    tls = ssl.create_default_context(cafile=found.ssl_ca_cert)
    tls.load_cert_chain(found.cert_file, found.key_file)
    return found.host, tls


class Api:
    """Requests to one cluster of a fleet. Not for use by two threads at once.

    Args:
        timeout_seconds: for each request; a stopped server raises OSError after it.
    """

    def __init__(self, cluster: Cluster, *, timeout_seconds: float = 10) -> None:
        server, tls = _access(cluster.kubeconfig, cluster.kubeconfig.stat().st_mtime)
        address = urlsplit(server)
        assert address.hostname
        self._connection = http.client.HTTPSConnection(
            address.hostname, address.port, timeout=timeout_seconds, context=tls
        )

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Return (HTTP status, JSON); {} for the plain text that an unknown path answers.

        A kept connection that the server closed is opened again, once.
        """
        data = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": content}
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, data, headers)
                answer = self._connection.getresponse()
                said = answer.read()
                return answer.status, json.loads(said) if "json" in (answer.getheader("Content-Type") or "") else {}
            except (http.client.HTTPException, ConnectionError, ssl.SSLEOFError):
                self._connection.close()
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, None if there is none of that name."""
        status, answer = self.request("GET", path_of(kind, namespace, name))
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        assert status == http.HTTPStatus.OK, answer
        return answer

    def items(self, kind: str, namespace: str = "") -> dict[str, dict[str, Any]]:
        """All objects by name."""
        status, answer = self.request("GET", path_of(kind, namespace))
        assert status == http.HTTPStatus.OK, answer
        return {item["metadata"]["name"]: item for item in answer["items"]}

    def create(self, kind: str, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        status, answer = self.request("POST", path_of(kind, namespace), manifest)
        assert status == http.HTTPStatus.CREATED, answer
        return answer

    def patch(
        self, kind: str, namespace: str, name: str, patch: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """JSON merge patch."""
        status, answer = self.request("PATCH", path_of(kind, namespace, name, subresource), patch, MERGE)
        assert status == http.HTTPStatus.OK, answer
        return answer

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """`kubectl apply --server-side --force-conflicts`."""
        for manifest in manifests:
            metadata = manifest["metadata"]
            path = path_of(manifest["kind"].lower(), metadata.get("namespace", ""), metadata["name"])
            status, answer = self.request("PATCH", f"{path}?fieldManager=kubectl&force=true", manifest, APPLY)
            assert status in (http.HTTPStatus.OK, http.HTTPStatus.CREATED), answer

    def delete(self, kind: str, namespace: str, name: str) -> None:
        status, answer = self.request("DELETE", path_of(kind, namespace, name))
        assert status in (http.HTTPStatus.OK, http.HTTPStatus.ACCEPTED, http.HTTPStatus.NOT_FOUND), answer

    def close(self) -> None:
        self._connection.close()
