"""Certificates of agents: what a request may ask for, and what is signed. Pure but for serial numbers.

Nothing is copied from a request but its public key: subject, usages, names and lifetime are ours.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from syncer.api.names import ORGANIZATION, common_name
from syncer.api.registration import MAX_REQUEST
from syncer.errors import SyncError
from syncer.hub.certificates import BACKDATE, KeyPair, PublicKey, load_authority
from syncer.hub.identity import AgentIdentity

LIFETIME: Final = timedelta(days=30)
CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
RSA_BITS: Final = (3072, 8192)
_BEGIN: Final = "-----BEGIN CERTIFICATE REQUEST-----\n"
_END: Final = "-----END CERTIFICATE REQUEST-----\n"


class RequestDenied(SyncError):
    """A certificate request asks for what is not given. The text says what, for the agent's operator."""


def check_request(pem: str, target: str) -> PublicKey:
    """The public key of a request for a target's certificate.

    Taken is exactly: subject CN and O of that target's agent, no attributes and no extensions, a key that is strong
    enough, and a signature by that key.

    Args:
        pem: one certificate request.
        target: the name that the requester proved a right to, by token or by certificate.
    Raises:
        RequestDenied: anything else.
    """
    text = pem.replace("\r\n", "\n")
    if not text.endswith("\n"):
        text += "\n"
    if len(text) > MAX_REQUEST or not text.startswith(_BEGIN) or not text.endswith(_END) or text.count("-----") != 4:
        raise RequestDenied("the request is not one certificate request in PEM")
    try:
        request = x509.load_pem_x509_csr(text.encode("ascii"))
        subject = sorted((name.oid.dotted_string, name.value) for name in request.subject)
        single = all(len(part) == 1 for part in request.subject.rdns)
        extensions, attributes = len(request.extensions), len(request.attributes)
        key = request.public_key()
        signed = request.is_signature_valid
        digest = request.signature_hash_algorithm
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension):
        raise RequestDenied("the request is not one certificate request in PEM") from None
    if not isinstance(digest, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise RequestDenied("the request must be signed with SHA-256, SHA-384 or SHA-512")
    _check_key(key)
    if not signed:
        raise RequestDenied("the request is not signed by its own key")
    wanted = {(NameOID.COMMON_NAME.dotted_string, common_name(target)), (_ORGANIZATION_OID, ORGANIZATION)}
    if not single or subject != sorted(wanted):
        raise RequestDenied(f"the subject must be exactly O={ORGANIZATION}, CN={common_name(target)}")
    if extensions or attributes:
        raise RequestDenied("the request must not ask for extensions: no names, no usages, no constraints")
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return key


_ORGANIZATION_OID: Final = NameOID.ORGANIZATION_NAME.dotted_string


def _check_key(key: object) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
        return
    if isinstance(key, rsa.RSAPublicKey) and RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        return
    raise RequestDenied(f"the key must be ECDSA on P-256 or P-384, or RSA of {RSA_BITS[0]} bits and more")


def issue(
    authority: KeyPair,
    key: PublicKey,
    *,
    target: str,
    cluster_uid: str,
    registration_uid: str,
    generation: int,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> bytes:
    """A client certificate for the agent of a target, PEM.

    Args:
        authority: the agents' own.
        key: from `check_request`.
        generation: of the registration.
        now: UTC.
    Raises:
        ValueError: the authority cannot sign.
    """
    issuer, issuer_key = load_authority(authority, now)
    end = min(now + lifetime, issuer.not_valid_after_utc)
    identity = AgentIdentity(target, cluster_uid, registration_uid, generation)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name(target)),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_DIGITAL_SIGNATURE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri())]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


_DIGITAL_SIGNATURE: Final = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=False,
    crl_sign=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
