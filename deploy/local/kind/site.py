"""Where kind runs: which command, in front of which engine, inside which network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.errors import GroundError
from deploy.local.files import write_json
from deploy.local.kind.commands import run

STOCK = "stock"
BUILT = "built"
_FILE = "site.json"
_CREATE_SECONDS = 600.0
_READY = "300s"


@dataclass(frozen=True)
class Site:
    """One engine and the kind command for it.

    Attributes:
        way: `stock` or `built`.
        kind: the command.
        inside: words before a command that is to reach clusters and engine's network; none in the stock way.
        variables: what the environment gets, `DOCKER_HOST` for one.
        image: node image; None leaves the choice to kind.
    """

    way: str
    kind: Path
    inside: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None

    @classmethod
    def load(cls, folder: Path) -> Site:
        """Read what `save` wrote.

        Raises:
            GroundError: no kind fleet is or was starting in the folder.
        """
        try:
            data = json.loads((folder / _FILE).read_text())
        except FileNotFoundError as error:
            raise GroundError(
                f"no kind fleet is up in {folder.parent}", hint="start one with `make up PROVIDER=kind`"
            ) from error
        return cls(data["way"], Path(data["kind"]), tuple(data["inside"]), data["variables"], data["image"])

    def save(self, folder: Path) -> None:
        """Keep it in a folder, for `down` and for whoever runs commands there."""
        write_json(folder / _FILE, {**asdict(self), "kind": str(self.kind)})

    def environment(self, **more: str) -> dict[str, str]:
        """This process's environment with our variables in it."""
        return {**os.environ, **self.variables, **more}

    def docker(self, *arguments: str, timeout_seconds: float = 60) -> str:
        """Run Docker's client and return what it prints.

        Raises:
            GroundError: it failed.
        """
        return run(
            [*self.inside, "docker", *arguments], timeout_seconds=timeout_seconds, environ=self.environment()
        ).stdout

    def clusters(self) -> list[str]:
        """Names of the kind clusters that this engine holds, other people's included."""
        return self._kind(["get", "clusters"], timeout_seconds=60).split()

    def create(self, name: str, folder: Path, *, log: Path, network: str = "") -> Path:
        """Create a cluster, wait until its node is ready, and return its admin's kubeconfig.

        Args:
            folder: gets the kubeconfig.
            log: gets what kind says.
            network: of the engine, to be used instead of kind's own.

        Raises:
            GroundError: kind failed.
        """
        kubeconfig = folder / "kind.kubeconfig"
        config = folder / "kind.json"
        write_json(config, cluster_config(built=self.way == BUILT))
        arguments = ["create", "cluster", f"--name={name}", f"--config={config}", f"--kubeconfig={kubeconfig}"]
        if self.image:
            arguments.append(f"--image={self.image}")
        more = {"KIND_EXPERIMENTAL_DOCKER_NETWORK": network} if network else {}
        self._kind([*arguments, f"--wait={_READY}"], timeout_seconds=_CREATE_SECONDS, log=log, **more)
        return kubeconfig

    def delete(self, name: str, kubeconfig: Path) -> None:
        """Delete a cluster; one that is not there is fine."""
        self._kind(["delete", "cluster", f"--name={name}", f"--kubeconfig={kubeconfig}"], timeout_seconds=120)

    def load_image(self, name: str, image: str) -> None:
        """Put an image on the nodes of a cluster.

        Args:
            image: path of an archive in the form of `docker save`, or the name of an image that the engine has.

        Raises:
            GroundError: there is no such image, or kind failed.
        """
        kind = "image-archive" if Path(image).is_file() else "docker-image"
        self._kind(["load", kind, image, f"--name={name}"], timeout_seconds=300)

    def _kind(self, arguments: Sequence[str], *, timeout_seconds: float, log: Path | None = None, **more: str) -> str:
        command = [*self.inside, str(self.kind), *arguments]
        return run(command, timeout_seconds=timeout_seconds, environ=self.environment(**more), log=log).stdout


def node_of(cluster: str) -> str:
    """Name of a cluster's node: its container, its host name and its Node object."""
    return f"{cluster}-control-plane"


def cluster_config(*, built: bool) -> dict[str, Any]:
    """What kind is told of a cluster: one node; the node image that we build brings its own Pod network."""
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"apiServerAddress": "127.0.0.1", **({"disableDefaultCNI": True} if built else {})},
        "nodes": [{"role": "control-plane"}],
    }
