"""Kubeconfig files, with every credential inline: they can be copied, and stored in a Secret, as they are."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local.certificates import KeyPair
from deploy.local.errors import GroundError


@dataclass(frozen=True)
class Endpoint:
    """Where an API server answers, and the CA (PEM) that proves it."""

    server: str
    certificate_authority: bytes


def kubeconfig(context: str, endpoint: Endpoint, pair: KeyPair, *, user: str) -> dict[str, Any]:
    """Build a kubeconfig with one context, which is the current one."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": endpoint.server,
                    "certificate-authority-data": _base64(endpoint.certificate_authority),
                },
            }
        ],
        "users": [
            {
                "name": f"{user}@{context}",
                "user": {
                    "client-certificate-data": _base64(pair.certificate),
                    "client-key-data": _base64(pair.key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": f"{user}@{context}"}}],
        "current-context": context,
    }


def as_text(config: Mapping[str, Any]) -> str:
    """Render as JSON, which every reader of kubeconfigs takes as YAML."""
    return json.dumps(config, indent=1) + "\n"


def load(path: Path) -> dict[str, Any]:
    """Read a kubeconfig.

    Raises:
        GroundError: the file is missing, unreadable, or no kubeconfig.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise GroundError(f"cannot read kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError:
        config = None  # the parser's message quotes the file, which holds credentials
    if not isinstance(config, dict) or not all(isinstance(config.get(part), list) for part in _PARTS):
        raise GroundError(f"{path} is not a kubeconfig", hint="it needs clusters, users and contexts")
    return config


_PARTS = ("clusters", "users", "contexts")


def current(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (cluster, user) of the current context.

    Raises:
        GroundError: the current context is missing or points nowhere.
    """
    try:
        context = _named(config["contexts"], config.get("current-context", ""))["context"]
        return _named(config["clusters"], context["cluster"])["cluster"], _named(config["users"], context["user"])[
            "user"
        ]
    except KeyError as error:
        raise GroundError(
            f"the kubeconfig's current context is incomplete: {error.args[0]} is missing",
            hint="choose a context with `kubectl config use-context NAME`",
        ) from error


def with_context(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a kubeconfig that holds only the current context, under another name."""
    cluster, user = current(config)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"admin@{name}", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"admin@{name}"}}],
        "current-context": name,
    }


def merged(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put several one-context kubeconfigs into one; the first context is the current one."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        **{part: [item for config in configs.values() for item in config[part]] for part in _PARTS},
        "current-context": next(iter(configs)),
    }


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item.get("name") == name:
            return item
    raise KeyError(name or "current-context")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
