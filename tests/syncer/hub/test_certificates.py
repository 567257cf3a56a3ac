"""The hub's authority: what it signs is accepted by a strict TLS client, and by nobody with another authority."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from syncer.hub.certificates import (
    SERVER_LIFETIME,
    KeyPair,
    authority_hash,
    check_authority,
    issue_server,
    load_pair,
    make_authority,
    server_context,
)

NOW = datetime.now(UTC)
AUTHORITY = make_authority(now=NOW)


async def connect(server: KeyPair, trusted: bytes, name: str, *, maximum: ssl.TLSVersion | None = None) -> str | None:
    """Handshake over loopback; the TLS version, or the error."""
    context = server_context()
    load_pair(context, server)
    listener = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    client = ssl.create_default_context(cadata=trusted.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    if maximum:
        client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        client.maximum_version = maximum
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        version: str | None = writer.get_extra_info("ssl_object").version()
        writer.close()
        return version
    finally:
        listener.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "hub.example"])
async def test_a_strict_client_accepts_every_listed_name(name: str) -> None:
    server = issue_server(AUTHORITY, ["127.0.0.1", "localhost", "hub.example"], now=NOW)
    assert await connect(server, AUTHORITY.certificate, name) == "TLSv1.3"


async def test_other_names_and_other_authorities_are_refused() -> None:
    """S60."""
    server = issue_server(AUTHORITY, ["127.0.0.1"], now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(server, AUTHORITY.certificate, "hub.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(server, make_authority(now=NOW).certificate, "127.0.0.1")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_below_1_2_is_refused() -> None:
    """S60."""
    server = issue_server(AUTHORITY, ["127.0.0.1"], now=NOW)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect(server, AUTHORITY.certificate, "127.0.0.1", maximum=ssl.TLSVersion.TLSv1_1)


def test_a_server_certificate_lives_ninety_days_and_never_longer_than_its_authority() -> None:
    fresh = x509.load_pem_x509_certificate(issue_server(AUTHORITY, ["a"], now=NOW).certificate)
    assert fresh.not_valid_after_utc - NOW <= SERVER_LIFETIME
    late = NOW + timedelta(days=3640)
    last = x509.load_pem_x509_certificate(issue_server(AUTHORITY, ["a"], now=late).certificate)
    authority = x509.load_pem_x509_certificate(AUTHORITY.certificate)
    assert last.not_valid_after_utc <= authority.not_valid_after_utc


def test_an_authority_that_cannot_sign_is_recognised() -> None:
    check_authority(AUTHORITY, now=NOW)
    other = make_authority(now=NOW)
    for broken, when in (
        (KeyPair(AUTHORITY.certificate, other.key), NOW),
        (KeyPair(b"nonsense", AUTHORITY.key), NOW),
        (KeyPair(AUTHORITY.certificate, b"nonsense"), NOW),
        (AUTHORITY, NOW + timedelta(days=3650)),
    ):
        with pytest.raises(ValueError, match=r".+"):
            check_authority(broken, now=when)


def test_the_hash_names_the_key_and_the_pair_shows_nothing() -> None:
    assert authority_hash(AUTHORITY.certificate).startswith("sha256:")
    assert len(authority_hash(AUTHORITY.certificate)) == 7 + 64
    assert "BEGIN" not in repr(AUTHORITY)
