"""Networks of the self-built way: one for each cluster, so that upstream cannot dial its targets.

The engine keeps its networks apart. One exception is made: targets may dial upstream, as agents dial their hub from
behind NAT. Node addresses: 10.202.0.2 is upstream's, 10.202.N.2 that of the Nth target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.kind.commands import run

_BRIDGE = "syncline"  # and a number; names of network devices have at most 15 characters


@dataclass(frozen=True)
class Network:
    """The network of one cluster, the number 0 being upstream's."""

    name: str
    number: int

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `docker network create` is told."""
        return (
            "--driver=bridge",
            f"--subnet=10.202.{self.number}.0/24",
            f"--gateway=10.202.{self.number}.1",
            f"--opt=com.docker.network.bridge.name={_BRIDGE}{self.number}",
            self.name,
        )


def networks(names: Sequence[str]) -> dict[str, Network]:
    """Give each cluster its network; upstream comes first."""
    return {name: Network(f"syncline-{name}", number) for number, name in enumerate(names)}


def rules() -> list[list[str]]:
    """Arguments of iptables for the chain that the engine asks before its own: answers pass, and calls to upstream."""
    return [
        ["-I", "DOCKER-USER", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        ["-I", "DOCKER-USER", "-i", f"{_BRIDGE}+", "-o", f"{_BRIDGE}0", "-j", "ACCEPT"],
    ]


def let_targets_dial_upstream(inside: Sequence[str]) -> None:
    """Set the rules in the engine's network namespace.

    Raises:
        GroundError: iptables refused one.
    """
    for rule in rules():
        run([*inside, "iptables", *rule], timeout_seconds=20)
