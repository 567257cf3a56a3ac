"""What `target add` writes: an identity on the target, Secret and SyncTarget upstream. Pure: values in, manifests out.

The identity's token is one that Kubernetes keeps in a Secret on the target, not one from the TokenRequest API: those
expire (clouds cap them at a day or two), and a target that is reached directly has no agent that would renew them, so
syncing would stop by itself. This one ends when somebody deletes the Secret, the ServiceAccount or the namespace there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import yaml

from syncer.api.common import LABEL_KEY_PATTERN, LABEL_VALUE_PATTERN, TARGET_NAME_MAX, TARGET_NAME_PATTERN
from syncer.api.names import API_VERSION, SYSTEM_NAMESPACE
from syncer.api.policy import target_role
from syncer.api.synctarget import AcceptedResources
from syncer.cli.errors import WrongUse

Manifest = dict[str, Any]
MANAGER: Final = "syncline-cli"  # field manager of everything that the CLI applies
_PART_OF: Final = {"app.kubernetes.io/part-of": "syncline"}


class Server(NamedTuple):
    """How a target's API server is reached, without any credential."""

    url: str
    certificate_authority: bytes  # PEM
    tls_server_name: str | None = None


def check_name(name: str) -> str:
    """Give a target's name back.

    Raises:
        WrongUse: it is not a DNS label of at most 40 characters.
    """
    if len(name) > TARGET_NAME_MAX or not re.fullmatch(TARGET_NAME_PATTERN, name):
        raise WrongUse(
            f"{name[:64]!r} cannot be the name of a target",
            f"Use at most {TARGET_NAME_MAX} characters: lower-case letters, digits and, not at the ends, '-'.",
        )
    return name


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """`["region=eu"]` → `{"region": "eu"}`.

    Raises:
        WrongUse: one of them is not a Kubernetes label.
    """
    labels = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not re.fullmatch(LABEL_KEY_PATTERN, key) or not re.fullmatch(LABEL_VALUE_PATTERN, value):
            raise WrongUse(f"--label {text[:128]!r} is not KEY=VALUE", "Write it like --label region=eu")
        labels[key] = value
    return labels


def identity_name(hub_id: str) -> str:
    """Name of everything that belongs to one hub on a target; two hubs on one target share nothing."""
    return f"syncline-{hub_id[:8]}"


def identity(hub_id: str, resources: AcceptedResources) -> list[Manifest]:
    """Namespace, ServiceAccount, role, binding and token Secret on the target, in the order to apply."""
    name = identity_name(hub_id)
    account: Manifest = {"name": name, "namespace": SYSTEM_NAMESPACE}
    role = target_role(resources, name=name)
    role["metadata"] = {**role["metadata"], "labels": _PART_OF}
    return [
        namespace(),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**account, "labels": _PART_OF}},
        role,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "labels": _PART_OF},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**account, "labels": _PART_OF, "annotations": {"kubernetes.io/service-account.name": name}},
            "type": "kubernetes.io/service-account-token",
        },
    ]


def namespace() -> Manifest:
    """Our own namespace; needed upstream and on the target."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE, "labels": _PART_OF}}


def kubeconfig(name: str, server: Server, token: str) -> str:
    """A kubeconfig that holds all it needs inline, as the operator demands it (B29)."""
    cluster = {
        "server": server.url,
        "certificate-authority-data": base64.b64encode(server.certificate_authority).decode(),
    }
    if server.tls_server_name:
        cluster["tls-server-name"] = server.tls_server_name
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=False)


def secret(name: str, config: str) -> Manifest:
    """The Secret upstream that holds a target's kubeconfig."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": _PART_OF},
        "type": "Opaque",
        "data": {"kubeconfig": base64.b64encode(config.encode()).decode()},
    }


def sync_target(name: str, labels: Mapping[str, str], allow: Sequence[str]) -> Manifest:
    """The SyncTarget upstream. Only what the command line says is applied, so that edits by others stay."""
    ref = {"namespace": SYSTEM_NAMESPACE, "name": name, "key": "kubeconfig"}
    spec: Manifest = {"connection": {"direct": {"kubeconfigSecretRef": ref}}}
    if allow:
        spec["resources"] = {"allow": list(allow)}
    return {
        "apiVersion": API_VERSION,
        "kind": "SyncTarget",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": spec,
    }
