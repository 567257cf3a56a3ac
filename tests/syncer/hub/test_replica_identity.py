"""The certificate that only replicas have, and what it is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from syncer.hub.auth import user_of_certificate
from syncer.hub.certificates import KeyPair, issue_replica, issue_server, make_authority
from syncer.hub.replica_identity import COMMON_NAME, ReplicaIdentity, issued_to_replica
from syncer.lease import new_identity

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
AUTHORITY = make_authority(now=NOW)


def der(pair: KeyPair) -> bytes:
    return x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)


def identity(now: datetime = NOW) -> ReplicaIdentity:
    return ReplicaIdentity(AUTHORITY, "r1", clock=lambda: now)


def test_a_replica_is_known_by_its_certificate_whatever_its_host_is_called() -> None:
    for name in (new_identity(), "Node_1.example_4711_3f2a9c1e", "ü_1_2"):
        assert identity().replica(der(issue_replica(AUTHORITY, COMMON_NAME, name, now=NOW))) == name
    long = "h" * 80 + "_1_3f2a9c1e"
    assert identity().replica(der(issue_replica(AUTHORITY, COMMON_NAME, long, now=NOW))) == long[-64:]


def test_nothing_else_is_a_replica() -> None:
    """Another signer, another use, another name, another time."""
    mine = issue_replica(AUTHORITY, COMMON_NAME, "r2", now=NOW)
    stranger = issue_replica(make_authority(now=NOW), COMMON_NAME, "r2", now=NOW)
    named = issue_replica(AUTHORITY, "system:syncline:target:east", "r2", now=NOW)
    for shown in (stranger, named, issue_server(AUTHORITY, ["r2"], now=NOW), AUTHORITY):
        assert identity().replica(der(shown)) == ""
    for shown_bytes in (None, b"", b"junk"):
        assert identity().replica(shown_bytes) == ""
    assert identity(NOW + timedelta(days=91)).replica(der(mine)) == ""
    assert identity(NOW - timedelta(hours=1)).replica(der(mine)) == ""


def test_a_replica_is_no_user_of_upstream() -> None:
    """The TLS handshake takes its certificate; nobody may speak to the API with it."""
    subject = ((("organizationalUnitName", "r1"),), (("commonName", COMMON_NAME),))
    assert issued_to_replica({"subject": subject})
    assert user_of_certificate({"subject": subject}) is None
    assert not issued_to_replica({"subject": ((("commonName", "alice"),),)})


def test_the_certificate_is_made_anew_before_it_ends() -> None:
    now = [NOW]
    made = ReplicaIdentity(AUTHORITY, "r1", clock=lambda: now[0])
    first = made.context()
    assert made.context() is first
    now[0] += timedelta(days=61)
    assert made.context() is not first
