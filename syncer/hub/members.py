"""Which replicas there are, and whose agents are linked to them. Pure: records in, answers out.

Each replica keeps one Lease of its own: it says that the replica lives, where it is reached, and which targets' agents
are linked to it. Nobody else writes it, and `epoch` counts its changes, so that what is older never replaces what is
newer. A record that did not change for its lease is no member; whose clock says what plays no part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.kube.objects import KubeObject
from tunneler.rendezvous import ranked

LABEL: Final = "syncline.io/replica"  # "true" on the Leases of replicas
ANNOTATION: Final = "syncline.io/tunnels"  # a `Record` as JSON
MEMBER_SECONDS: Final = 10.0  # without a change for so long, a replica is none any more
MAX_RECORDED: Final = 4000  # targets; annotations of an object hold 256 KiB
MAX_TOLD: Final = 6  # addresses for an agent; each at most 512 bytes, and HELLO_OK holds 8 KiB


class Link(msgspec.Struct, frozen=True, array_like=True):
    """The links of one target's agents to a replica.

    Attributes:
        count: how many take streams.
        session: number of the newest at that replica.
        since: UTC, seconds, when the oldest came up.
    """

    count: int
    session: int
    since: int


class Record(msgspec.Struct, frozen=True):
    """What a replica says of itself.

    Attributes:
        replica: its id, new with each process.
        url: where other replicas reach it.
        epoch: grows with each change of `links`.
        links: {target: its links}.
        agents: where agents reach it, "" for `url`; the same for several replicas where only a balancer leads there.
    """

    replica: str
    url: str
    epoch: int = 0
    links: dict[str, Link] = {}
    agents: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """What an observation changed.

    Attributes:
        members: replicas came, went or moved.
        targets: whose links to other replicas changed.
        gone: id of the replica that went.
    """

    members: bool = False
    targets: frozenset[str] = frozenset()
    gone: str = ""

    def __bool__(self) -> bool:
        return self.members or bool(self.targets)


@dataclass(slots=True)
class _Member:
    record: Record
    renewed: str
    seen_at: float


@dataclass
class Members:
    """The other replicas, as one of them sees them.

    Attributes:
        own: id of the one that looks; its own record is never among them.
        url: its address; a record of that address is its former self, or a mistake, and nobody to send anybody to.
    """

    own: str
    url: str = ""
    _known: dict[str, _Member] = field(default_factory=dict)  # {replica: what was seen last}

    def observe(self, record: Record, renewed: str, now: float) -> Changed:
        """A Lease is so now. An older epoch of the same replica changes nothing: the view that showed it was late.

        Args:
            renewed: the Lease's renewTime, compared with the last one only.
            now: monotonic seconds.
        """
        if record.replica == self.own:
            return Changed()
        known = self._known.get(record.replica)
        if known is None:
            self._known[record.replica] = _Member(record, renewed, now)
            return Changed(True, frozenset(record.links))
        if record.epoch < known.record.epoch or (renewed == known.renewed and record == known.record):
            return Changed()
        before, known.record, known.renewed, known.seen_at = known.record, record, renewed, now
        return Changed(
            (before.url, before.agents) != (record.url, record.agents), _differing(before.links, record.links)
        )

    def remove(self, replica: str) -> Changed:
        """Its Lease is gone."""
        known = self._known.pop(replica, None)
        return Changed(True, frozenset(known.record.links), replica) if known is not None else Changed()

    def expire(self, now: float) -> list[str]:
        """Replicas whose record stood still for `MEMBER_SECONDS`; `remove` them."""
        return [name for name, member in self._known.items() if now - member.seen_at >= MEMBER_SECONDS]

    def forgive(self, now: float) -> None:
        """Nothing was heard of anybody, so nobody's silence counts until now."""
        for member in self._known.values():
            member.seen_at = now

    def __len__(self) -> int:
        return len(self._known)

    def addresses(self, target: str) -> list[str]:
        """Where agents reach the other replicas, the best for the target first; at most `MAX_TOLD`."""
        others = (m.record for m in self._known.values() if m.record.url != self.url)
        return ranked(target, {record.agents or record.url for record in others})[:MAX_TOLD]

    def url_of(self, replica: str) -> str:
        """Where another replica is reached; "" if it is none that is known."""
        known = self._known.get(replica)
        return known.record.url if known is not None else ""

    def holders(self, target: str) -> list[Record]:
        """The other replicas with a link to the target's agent, the best first."""
        found = {m.record.url: m.record for m in self._known.values() if target in m.record.links}
        found.pop(self.url, None)
        return [found[url] for url in ranked(target, found)]


def _differing(before: Mapping[str, Link], after: Mapping[str, Link]) -> frozenset[str]:
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def lease_name(replica: str) -> str:
    """Name of a replica's Lease: ids hold what names of objects must not."""
    return f"syncline-replica-{hashlib.sha256(replica.encode()).hexdigest()[:16]}"


def encode(record: Record, *, renewed: str, version: str) -> bytes:
    """The Lease to send.

    Args:
        renewed: the time to write, Kubernetes MicroTime.
        version: resourceVersion that it must still have; "" for one that does not exist.
    """
    metadata: dict[str, object] = {
        "name": lease_name(record.replica),
        "namespace": SYSTEM_NAMESPACE,
        "labels": {LABEL: "true"},
        "annotations": {ANNOTATION: msgspec.json.encode(record).decode()},
    }
    if version:
        metadata["resourceVersion"] = version
    spec = {"holderIdentity": record.replica, "leaseDurationSeconds": int(MEMBER_SECONDS), "renewTime": renewed}
    return msgspec.json.encode(
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    )


def decode(found: KubeObject) -> tuple[Record, str] | None:
    """(what a Lease says, its renewTime); None if it is no record of a replica."""
    try:
        record = msgspec.json.decode(found.annotations.get(ANNOTATION, ""), type=Record)
    except msgspec.DecodeError:
        return None
    renewed = found.field("spec", "renewTime")
    if not isinstance(renewed, str) or found.name != lease_name(record.replica):
        return None
    return record, renewed
