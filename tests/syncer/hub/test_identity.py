"""Who an agent is, and until when."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import permutations
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from syncer.api.registration import ClusterRegistration
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from syncer.hub.agent_certificates import issue
from syncer.hub.auth import user_of_certificate
from syncer.hub.certificates import KeyPair, make_authority
from syncer.hub.gate import IdentityGate
from syncer.hub.identity import AgentIdentity, Bindings, Closed, Identities, IdentityRefused
from tunneler.errors import TunnelError
from tunneler.frames import Hello
from tunneler.links.listen import Peer

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
BOUND = AgentIdentity("east", "u1", "r1", 1)


@cache
def authority(name: str = "syncline-agent-ca") -> KeyPair:
    return make_authority(now=NOW, name=name)


def der(*, by: KeyPair | None = None, **more: Any) -> bytes:
    asked: dict[str, Any] = {
        "target": "east", "cluster_uid": "u1", "registration_uid": "r1", "generation": 1, "now": NOW, **more
    }  # fmt: skip
    return x509.load_pem_x509_certificate(issue(by or authority(), KEY.public_key(), **asked)).public_bytes(
        Encoding.DER
    )


def registration(uid: str = "r1", *, target: str = "east", **more: Any) -> ClusterRegistration:
    status = {"phase": "Approved", "registrationGeneration": int(uid[1:]), **more.pop("status", {})}
    metadata = {"name": f"{target}-{uid}", "uid": uid, **more.pop("metadata", {})}
    spec = {"targetName": target, "clusterUID": "u1", "request": "x", **more}
    return ClusterRegistration.parse(
        {"kind": "ClusterRegistration", "metadata": metadata, "spec": spec, "status": status}
    )


def sync_target(name: str = "east", *, direct: bool = False) -> SyncTarget:
    connection: dict[str, Any] = {"direct": {}} if direct else {"tunnel": {}}
    return SyncTarget.parse({"kind": "SyncTarget", "metadata": {"name": name}, "spec": {"connection": connection}})


def identities(*, now: datetime = NOW, bound: bool = True) -> Identities:
    made = Identities(authority().certificate, clock=lambda: now)
    made.problem = ""
    if bound:
        made.bindings.sync_target("east", sync_target())
        made.bindings.registration("east-r1", registration())
    return made


def test_a_certificate_says_who_the_agent_is() -> None:
    assert identities().authenticate(der()) == BOUND


@pytest.mark.parametrize(
    ("shown", "status", "why"),
    [
        (None, 401, "show the client certificate"),
        (b"junk", 401, "not issued to an agent"),
        (lambda: der(by=authority("syncline-hub-ca")), 401, "not issued to an agent"),
        (lambda: der(by=make_authority(now=NOW, name="syncline-agent-ca")), 401, "not issued to an agent"),
        (lambda: x509.load_pem_x509_certificate(authority().certificate).public_bytes(Encoding.DER), 401, "not issued"),
        (lambda: der(now=NOW - timedelta(days=31)), 401, "ended on 2026-05-03"),
        (lambda: der(now=NOW + timedelta(hours=1)), 401, "not issued to an agent"),
        (lambda: der(target="west"), 403, "no registration that is approved"),
        (lambda: der(registration_uid="r0"), 403, "was replaced by registration 1"),
        (lambda: der(cluster_uid="u2", registration_uid="r2"), 403, "is the cluster u1, and this is the cluster u2"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_its_reason(shown: Any, status: int, why: str) -> None:
    """S03, S06, B40: other signers, ends of life, former registrations, other clusters."""
    with pytest.raises(IdentityRefused, match=why) as refused:
        identities().authenticate(shown() if callable(shown) else shown)
    assert refused.value.status == status


def test_a_clock_that_is_a_little_ahead_locks_nobody_out() -> None:
    """S06."""
    end = NOW + timedelta(days=30)
    assert identities(now=end + timedelta(seconds=59)).authenticate(der())
    with pytest.raises(IdentityRefused):
        identities(now=end + timedelta(seconds=61)).authenticate(der())


def test_nobody_is_let_in_before_everything_registered_is_known() -> None:
    made = identities()
    made.problem = "the registrations are being read"
    with pytest.raises(IdentityRefused) as refused:
        made.authenticate(der())
    assert refused.value.status == 503


def test_a_user_of_upstream_never_is_an_agent_and_an_agent_never_is_a_user(tmp_path: Any) -> None:
    """S10: one TLS listener takes both kinds of certificates."""
    upstream = make_authority(now=NOW, name="kubernetes")
    with pytest.raises(IdentityRefused):
        identities().authenticate(der(by=upstream))
    assert user_of_certificate(decoded(tmp_path, der())) is None
    assert (
        user_of_certificate(decoded(tmp_path, der(by=upstream))) is None
    )  # not even if upstream itself signs the name
    plain = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")]))
        .public_key(KEY.public_key()).serial_number(1).not_valid_before(NOW).not_valid_after(NOW)
        .sign(KEY, hashes.SHA256())
    )  # fmt: skip
    user = user_of_certificate(decoded(tmp_path, plain.public_bytes(Encoding.DER)))
    assert user is not None
    assert user.name == "alice"


def decoded(folder: Any, certificate: bytes) -> dict[str, Any]:
    """As a TLS connection shows it."""
    file = folder / "c.pem"
    file.write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
    found: dict[str, Any] = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    return found


Change = Callable[[Bindings], None]
ENDS: dict[str, Change] = {
    "denied": lambda b: b.registration("east-r1", registration(decision="Denied")),
    "deleted": lambda b: b.registration("east-r1", None),
    "going": lambda b: b.registration("east-r1", registration(metadata={"deletionTimestamp": "2026-05-04T12:00:00Z"})),
    "expired": lambda b: b.registration("east-r1", registration(status={"phase": "Expired"})),
    "target gone": lambda b: b.sync_target("east", None),
    "target direct": lambda b: b.sync_target("east", sync_target(direct=True)),
    "next registration": lambda b: b.registration("east-r2", registration("r2")),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_each_way_to_end_cuts_the_links_once_and_makes_the_certificate_useless(end: str) -> None:
    """S07, S06."""
    made, told = identities(), list[Closed]()
    made.on_closed.append(told.append)
    ENDS[end](made.bindings)
    ENDS[end](made.bindings)
    assert [closed.target for closed in told] == ["east"]
    assert told[0].reason
    assert made.still_valid(BOUND)
    with pytest.raises(IdentityRefused):
        made.authenticate(der())


def test_a_target_that_is_being_removed_stays_bound_until_it_is_clean() -> None:
    made, told = identities(), list[Closed]()
    made.on_closed.append(told.append)
    going = sync_target()
    going = going.model_copy(
        update={"metadata": going.metadata.model_copy(update={"deletion_timestamp": "2026-05-04T12:00:00Z"})}
    )
    made.bindings.sync_target("east", going)
    assert (told, made.still_valid(BOUND)) == ([], "")


def test_the_order_in_which_things_become_known_does_not_matter() -> None:
    """S06: whatever is heard first, the same registration counts in the end, and nobody is cut at a start."""
    steps: list[Change] = [
        lambda b: b.sync_target("east", sync_target()),
        lambda b: b.registration("east-r1", registration("r1", status={"phase": "Expired"})),
        lambda b: b.registration("east-r2", registration("r2")),
        lambda b: b.registration("west-r3", registration("r3", target="west")),
    ]
    for order in permutations(steps):
        told: list[Closed] = []
        bindings = Bindings(told.append)
        for step in order:
            step(bindings)
        bound = bindings.of("east")
        assert bound is not None
        assert (bound.registration_uid, bound.generation) == ("r2", 2)
        assert (bindings.of("west"), told) == (None, [])


@pytest.mark.parametrize("field", ["endpoint", "url", "proxy", "proxyURL", "server"])
def test_a_tunnel_has_no_address_that_anybody_could_dial(field: str) -> None:
    """S22: the agent dials; what a SyncTarget says of a tunnel leads nowhere."""
    with pytest.raises(TerminalError, match="unknown field"):
        SyncTarget.parse(
            {
                "kind": "SyncTarget",
                "metadata": {"name": "east"},
                "spec": {"connection": {"tunnel": {field: "http://169.254.169.254"}}},
            }
        )


class Connection:
    """What a request shows of its TLS connection."""

    def __init__(self, certificate: bytes | None) -> None:
        self.certificate = certificate
        self.transport = self

    def get_extra_info(self, what: str) -> Any:
        return self if what == "ssl_object" else None

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self.certificate


async def test_the_gate_lets_in_the_cluster_that_joined_and_nobody_after_the_end() -> None:
    """S07, B40: a cluster that was built anew is refused when it says who it is, with both identities."""
    made = identities()
    gate = IdentityGate(made)
    connection: Any = Connection(der())
    assert await gate.authenticate(connection) == Peer("east", BOUND)
    gate.admit(BOUND, Hello(cluster_uid="u1"))
    assert gate.refusal(BOUND) == ""
    with pytest.raises(TunnelError, match="is the cluster u1, and this is the cluster u9"):
        gate.admit(BOUND, Hello(cluster_uid="u9"))
    with pytest.raises(TunnelError, match="not told"):
        gate.admit(BOUND, Hello())
    made.bindings.registration("east-r1", None)
    assert "join again" in gate.refusal(BOUND)
    nobody: Any = Connection(None)
    for refused in (connection, nobody):
        with pytest.raises(TunnelError):
            await gate.authenticate(refused)


async def test_a_handshake_on_its_way_gains_nothing_from_a_registration_that_replaces_its_own() -> None:
    """S06, S07: each session stands on the certificate of its own connection, whoever else came in meanwhile."""
    made = identities()
    gate = IdentityGate(made)
    shown: list[Any] = [Connection(der()), Connection(der(registration_uid="r2", generation=2))]
    old = await gate.authenticate(shown[0])
    made.bindings.registration("east-r2", registration("r2"))
    new = await gate.authenticate(shown[1])
    hello = Hello(cluster_uid="u1")
    with pytest.raises(TunnelError, match="registration 1 of target east was replaced by registration 2"):
        gate.admit(old.proof, hello)
    gate.admit(new.proof, hello)
    assert "was replaced" in gate.refusal(old.proof)
    assert gate.refusal(new.proof) == ""


def test_the_same_target_with_another_generation_is_another_identity() -> None:
    assert replace(BOUND, registration_generation=2).uri() != BOUND.uri()
