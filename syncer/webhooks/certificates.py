"""The webhooks' own CA and serving certificate. The CA lives as long as the process; its key is never stored."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CLOCK_SKEW: Final = timedelta(minutes=10)
_CA_LIFE: Final = timedelta(days=3650)
SERVING_LIFE: Final = timedelta(days=30)


class ServingCertificates:
    """One CA and the certificates it signs for the webhooks' hosts.

    Args:
        hosts: DNS names and IP addresses that the API server may dial.
        now: UTC.
    """

    def __init__(self, hosts: tuple[str, ...], *, now: datetime) -> None:
        self._hosts = hosts
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syncline webhooks CA")])
        self._ca = (
            self._builder(self._name, self._key, now, _CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signing=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.renew(now=now)

    @property
    def ca_bundle(self) -> bytes:
        """The CA certificate, PEM."""
        return self._ca.public_bytes(serialization.Encoding.PEM)

    def is_due(self, *, now: datetime) -> bool:
        """Whether less than a third of the serving certificate's life is left."""
        return now > self._expires - SERVING_LIFE / 3

    def renew(self, *, now: datetime) -> None:
        """A new key and certificate; new connections get it at once, under the same CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syncline webhooks")])
        certificate = (
            self._builder(subject, key, now, SERVING_LIFE)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in self._hosts]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_key_usage(signing=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with tempfile.TemporaryDirectory() as folder:  # ssl reads keys from files only; the folder is ours alone
            path = Path(folder) / "serving.pem"
            path.touch(mode=0o600)
            path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
            self.context.load_cert_chain(path)
        self._expires = now + SERVING_LIFE

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        key_cert_sign=signing,
        crl_sign=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
