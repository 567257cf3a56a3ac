"""What a fleet is asked to be, and where its parts will lie. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.errors import GroundError

UPSTREAM = "upstream"
MAX_TARGETS = 60
DEFAULT_TARGETS = ("east", "west")
DEFAULT_USERS = ("alice", "bob")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class FleetRequest:
    """What `up` is asked for.

    Attributes:
        targets: names, each a DNS label of at most 40 characters; the order is kept.
        light: targets are API servers only: no controllers, no nodes, so nothing runs and nothing is collected there.
        nodes: fake nodes on each target that is not light; targets of provider `kind` have one real node.
        users: plain users with a client certificate and no rights, on each cluster.
        arguments: extra flags, {component or "CLUSTER.COMPONENT": flags}, e.g. {"upstream.apiserver": ("--v=2",)}.
        kubeconfigs: provider `existing` only: {cluster: file}, with an entry for `upstream`.
    """

    targets: tuple[str, ...] = DEFAULT_TARGETS
    light: bool = False
    nodes: int = 3
    users: tuple[str, ...] = DEFAULT_USERS
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kubeconfigs: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.targets:
            if not _DNS_LABEL.fullmatch(name) or name == UPSTREAM:
                raise GroundError(
                    f"{name!r} cannot be a target's name",
                    hint="lower-case letters, digits and dashes, at most 40 characters, not 'upstream'",
                )
        if len(set(self.targets)) != len(self.targets):
            raise GroundError("two targets have the same name")
        if not 1 <= len(self.targets) <= MAX_TARGETS:
            raise GroundError(f"{len(self.targets)} targets were asked for", hint=f"a fleet has 1 to {MAX_TARGETS}")

    def as_json(self) -> dict[str, Any]:
        """A form that is equal for equal fleets, whoever asks."""
        return {
            "targets": list(self.targets),
            "light": self.light,
            "nodes": self.nodes,
            "arguments": {name: list(flags) for name, flags in sorted(self.arguments.items())},
            "kubeconfigs": {name: str(path.resolve()) for name, path in sorted(self.kubeconfigs.items())},
        }


@dataclass(frozen=True)
class ClusterPlan:
    """One cluster of a local fleet.

    Attributes:
        folder: holds `pki/`, `users/` and the kubeconfigs.
        ports: {component: TCP port}; the components are those that run.
        etcd_port: client port of the etcd that this cluster shares.
    """

    name: str
    folder: Path
    ports: Mapping[str, int]
    etcd_port: int

    @property
    def is_upstream(self) -> bool:
        """Upstream clusters run no controllers of workloads, nodes or Pods."""
        return self.name == UPSTREAM

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    @property
    def pki(self) -> Path:
        """Folder of certificates and keys."""
        return self.folder / "pki"


def components(name: str, *, light: bool) -> tuple[str, ...]:
    """Names of what runs for a cluster besides etcd, the API server first."""
    if name == UPSTREAM:
        return ("apiserver", "controller-manager")
    if light:
        return ("apiserver",)
    return ("apiserver", "controller-manager", "scheduler", "kwok")


def ports_needed(request: FleetRequest) -> int:
    """How many TCP ports a local fleet takes: two for etcd, one for each component."""
    return 2 + sum(len(components(name, light=request.light)) for name in (UPSTREAM, *request.targets))


def plan_clusters(request: FleetRequest, folder: Path, ports: list[int]) -> list[ClusterPlan]:
    """Give each component of each cluster its port; upstream comes first.

    Args:
        folder: the fleet's folder, absolute.
        ports: `ports_needed(request)` of them; the first two are etcd's client and peer port.
    """
    rest = iter(ports[2:])
    return [
        ClusterPlan(
            name=name,
            folder=folder / "clusters" / name,
            ports={component: next(rest) for component in components(name, light=request.light)},
            etcd_port=ports[0],
        )
        for name in (UPSTREAM, *request.targets)
    ]
