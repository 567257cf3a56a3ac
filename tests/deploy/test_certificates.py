"""Certificates of an authority that somebody else made."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.certificates import Authority, KeyPair

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_a_certificate_names_its_authority_as_that_names_itself() -> None:
    """kubeadm does not derive key identifiers as we do; OpenSSL, and so the hub, takes another one for another CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    authority = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(b"of its own"), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    pair = KeyPair(authority.public_bytes(serialization.Encoding.PEM), private)
    issued = x509.load_pem_x509_certificate(Authority(pair).issue("alice", now=NOW).certificate)
    named = issued.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == b"of its own"
