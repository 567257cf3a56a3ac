"""The hub's own authority and the certificates that it signs. Pure but for the randomness of keys."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME: Final = timedelta(days=3650)
SERVER_LIFETIME: Final = timedelta(days=90)
RENEW_AFTER: Final = timedelta(days=60)  # of a server certificate: at two thirds of its life
BACKDATE: Final = timedelta(minutes=5)  # clocks of clients may be behind

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey  # what agents may have


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, PEM. Never logged: `repr` shows neither.

    Attributes:
        trusted: of an authority: certificates of others that count like it, PEM; those before and after it.
    """

    certificate: bytes
    key: bytes
    trusted: bytes = b""

    @property
    def bundle(self) -> bytes:
        """Every authority that counts, PEM, this one first."""
        return self.certificate.rstrip() + b"\n" + self.trusted

    def __repr__(self) -> str:
        return "KeyPair(…)"


def make_authority(*, now: datetime, name: str = "syncline-hub-ca") -> KeyPair:
    """A new certificate authority for one installation.

    Args:
        now: UTC.
        name: its common name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key, now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate, key)


def issue_server(authority: KeyPair, hosts: Iterable[str], *, now: datetime, name: str = "syncline-hub") -> KeyPair:
    """A server certificate for these host names and addresses; `name` is its common name.

    Raises:
        ValueError: the authority's certificate or key cannot be read, do not belong together, or have expired.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([_general_name(host) for host in sorted(set(hosts))])
    return _issue(authority, subject, ExtendedKeyUsageOID.SERVER_AUTH, now, names)


def issue_client(authority: KeyPair, user: str, group: str = "", *, now: datetime) -> KeyPair:
    """A client certificate by which an API server knows a user of at most one group. Raises as `issue_server`."""
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    return _issue(authority, x509.Name(subject), ExtendedKeyUsageOID.CLIENT_AUTH, now)


def issue_replica(authority: KeyPair, name: str, replica: str, *, now: datetime) -> KeyPair:
    """A client certificate for a replica.

    Args:
        name: common name of all of them.
        replica: id of this one, the organizational unit; its end if it is above 64 characters.
    Raises:
        ValueError: as `issue_server`.
    """
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, replica[-64:]),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    return _issue(authority, subject, ExtendedKeyUsageOID.CLIENT_AUTH, now)


def _issue(
    authority: KeyPair,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    now: datetime,
    names: x509.SubjectAlternativeName | None = None,
) -> KeyPair:
    issuer, issuer_key = load_authority(authority, now)
    key = ec.generate_private_key(ec.SECP256R1())
    lifetime = min(SERVER_LIFETIME, issuer.not_valid_after_utc - now)
    builder = (
        _builder(subject, issuer.subject, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return _pem(builder.sign(issuer_key, hashes.SHA256()), key)


def check_authority(authority: KeyPair, *, now: datetime) -> None:
    """Raises ValueError if the authority cannot sign: unreadable, mismatched or expired; or if `trusted` is no PEM."""
    load_authority(authority, now)
    if authority.trusted.strip():
        x509.load_pem_x509_certificates(authority.trusted)


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def authority_hash(certificate: bytes) -> str:
    """`sha256:<hex>` over the public key (SubjectPublicKeyInfo, DER), as `--ca-hash` takes it."""
    public = x509.load_pem_x509_certificate(certificate).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def server_context(*, client_certificates: bool = True) -> ssl.SSLContext:
    """TLS 1.2 and up.

    Args:
        client_certificates: one may be shown, and then must come from an authority that is loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_certificates:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class ServingCertificate:
    """A listener's certificate under the installation's authority, made anew at two thirds of its life."""

    def __init__(self, authority: KeyPair, context: ssl.SSLContext) -> None:
        self.authority = authority
        self.context = context
        self._issued: datetime | None = None

    def refresh(self, hosts: Iterable[str], *, now: datetime) -> None:
        """Issue one if there is none or it is due; new connections are shown it at once.

        Args:
            now: UTC.
        Raises:
            ValueError: the authority cannot sign.
        """
        if self._issued is None or now - self._issued > RENEW_AFTER:
            load_pair(self.context, issue_server(self.authority, hosts, now=now))
            self._issued = now


def load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Let the context serve the pair; also on a context in use: new connections get the new certificate."""
    # The ssl module reads files only. The folder is readable by us alone and gone before this returns.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pair.pem")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pair.key + b"\n" + pair.certificate)
        context.load_cert_chain(path)


def load_authority(authority: KeyPair, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Certificate and key, to sign with. Raises ValueError if it cannot: unreadable, mismatched or expired."""
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("key and certificate do not belong together")
    if certificate.not_valid_after_utc - now < timedelta(days=1):
        raise ValueError("the certificate has expired")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def key_hash(key: PublicKey) -> str:
    """SHA-256 of a public key, hexadecimal: what a bootstrap token is bound to by its first use."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
