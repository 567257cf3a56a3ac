"""Certificates of the webhooks: served, trusted, renewed without a restart."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from syncer.webhooks.certificates import SERVING_LIFE, ServingCertificates

NOW = datetime.now(UTC)


async def _handshake(certificates: ServingCertificates, hostname: str) -> bytes:
    """The certificate that a client which trusts the CA is shown, DER."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificates.context)
    async with server:
        context = ssl.create_default_context(cadata=certificates.ca_bundle.decode())
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=hostname)
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return shown


@pytest.mark.parametrize("hostname", ["127.0.0.1", "syncline.example"])
async def test_the_certificate_is_trusted_for_each_host(hostname: str) -> None:
    certificates = ServingCertificates(("127.0.0.1", "syncline.example"), now=NOW)
    shown = x509.load_der_x509_certificate(await _handshake(certificates, hostname))
    assert shown.not_valid_after_utc - NOW <= SERVING_LIFE


async def test_another_host_is_not_trusted() -> None:
    certificates = ServingCertificates(("127.0.0.1",), now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        await _handshake(certificates, "other.example")


async def test_a_renewed_certificate_is_shown_under_the_same_ca() -> None:
    certificates = ServingCertificates(("127.0.0.1",), now=NOW)
    bundle = certificates.ca_bundle
    first = await _handshake(certificates, "127.0.0.1")
    certificates.renew(now=NOW)
    assert await _handshake(certificates, "127.0.0.1") != first
    assert certificates.ca_bundle == bundle


def test_renewal_is_due_in_the_last_third_of_its_life() -> None:
    certificates = ServingCertificates(("127.0.0.1",), now=NOW)
    assert not certificates.is_due(now=NOW + SERVING_LIFE / 2)
    late = NOW + SERVING_LIFE - timedelta(days=1)
    assert certificates.is_due(now=late)
    certificates.renew(now=late)
    assert not certificates.is_due(now=late)
