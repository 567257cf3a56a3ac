"""The Secrets that hold targets' kubeconfigs: one watch per namespace in use, changes passed on at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from functools import partial

from syncer.api.synctarget import SecretRef
from syncer.kube.changes import InformerEvent
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer
from syncer.kube.objects import ResourceInfo

SECRETS = ResourceInfo("", "v1", "secrets", "Secret", namespaced=True)


class SecretProblem(Exception):
    """The Secret cannot be used; `reason` is a word for conditions, the text says which Secret and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SecretWatch:
    """Reads Secrets from the cache of a watch; a namespace is watched from its first use on.

    All Secrets of such a namespace are held in memory, so that one watch serves any number of targets. Ordinarily that
    is `syncline-system` alone.
    """

    def __init__(self, client: ClusterClient, on_change: Callable[[str, str], None]) -> None:
        """Args: on_change: called with namespace and name of a Secret that came, changed or went; "" for all."""
        self._client = client
        self._on_change = on_change
        self._informers: dict[str, tuple[Informer, asyncio.Task[None]]] = {}

    def kubeconfig(self, ref: SecretRef) -> bytes | None:
        """The bytes that the reference points to; None while the namespace is not read yet.

        Raises:
            SecretProblem: there is no such Secret or key, or it holds no base64.
        """
        assert ref.name is not None
        where = f"Secret {ref.namespace}/{ref.name}"
        informer = self._informer(ref.namespace)
        secret = informer.cache.get((ref.namespace, ref.name))
        if secret is None:
            if not informer.synced:
                return None
            raise SecretProblem("SecretNotFound", f"{where} does not exist; create it with `syncline target add`")
        encoded = (secret.manifest().get("data") or {}).get(ref.key)
        if not encoded:
            raise SecretProblem("SecretKeyMissing", f"{where} has no key {ref.key!r}")
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise SecretProblem("InvalidKubeconfig", f"{where}: key {ref.key!r} is not base64") from None

    def close(self) -> None:
        """End all watches."""
        for _, task in self._informers.values():
            task.cancel()
        self._informers.clear()

    def _informer(self, namespace: str) -> Informer:
        known = self._informers.get(namespace)
        if known is None:
            informer = Informer(self._client, SECRETS, on_event=partial(self._event, namespace), namespace=namespace)
            known = self._informers[namespace] = (informer, informer.start(f"secrets/{namespace}"))
        return known[0]

    def _event(self, namespace: str, event: InformerEvent) -> None:
        # Without an object it is "everything is read now": whoever waits for a Secret that is not there learns it.
        self._on_change(namespace, event.object.name if event.object is not None else "")
