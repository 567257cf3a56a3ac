"""What a certificate request may ask for, and what is signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from syncer.hub.agent_certificates import LIFETIME, RequestDenied, check_request, issue
from syncer.hub.certificates import KeyPair, key_hash, make_authority

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CN, O, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME  # noqa: E741
GROUP, EAST = "system:syncline:targets", "system:syncline:target:east"
KEY = ec.generate_private_key(ec.SECP256R1())


def request(
    *names: tuple[x509.ObjectIdentifier, str],
    key: Any = KEY,
    extension: x509.ExtensionType | None = None,
    password: bool = False,
    algorithm: Any = hashes.SHA256(),  # noqa: B008 - a value
) -> str:
    subject = x509.Name([x509.NameAttribute(*pair) for pair in names or ((O, GROUP), (CN, EAST))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    if password:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"x")
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def authority() -> KeyPair:
    return make_authority(now=NOW, name="syncline-agent-ca")


def test_exactly_the_subject_and_a_good_key_are_taken() -> None:
    """S03."""
    assert check_request(request(), "east") == KEY.public_key()
    assert check_request(request((CN, EAST), (O, GROUP)), "east") == KEY.public_key()
    assert check_request(request().replace("\n", "\r\n"), "east") == KEY.public_key()
    assert check_request(request(key=ec.generate_private_key(ec.SECP384R1())), "east")
    assert check_request(request(key=rsa_key(3072)), "east")


SAN = x509.SubjectAlternativeName([x509.DNSName("hub.example")])
EVIL: dict[str, tuple[Any, str]] = {
    "no group": (lambda: request((CN, EAST)), "subject must be exactly"),
    "another group too": (lambda: request((O, GROUP), (O, "system:masters"), (CN, EAST)), "subject must be exactly"),
    "system:masters": (lambda: request((O, "system:masters"), (CN, EAST)), "subject must be exactly"),
    "another unit": (lambda: request((O, GROUP), (CN, EAST), (OU, "x")), "subject must be exactly"),
    "another target": (lambda: request((O, GROUP), (CN, f"{EAST}-2")), "subject must be exactly"),
    "two names": (lambda: request((O, GROUP), (CN, EAST), (CN, "admin")), "subject must be exactly"),
    "a blank more": (lambda: request((O, GROUP), (CN, f"{EAST} ")), "subject must be exactly"),
    "other case": (lambda: request((O, GROUP), (CN, EAST.upper())), "subject must be exactly"),
    "a host name": (lambda: request(extension=SAN), "must not ask for extensions"),
    "an authority": (
        lambda: request(extension=x509.BasicConstraints(ca=True, path_length=None)),
        "must not ask for extensions",
    ),
    "server usage": (
        lambda: request(extension=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
        "must not ask for extensions",
    ),
    "a challenge": (lambda: request(password=True), "must not ask for extensions"),
    "short RSA key": (lambda: request(key=rsa_key(1024)), "the key must be"),
    "old RSA key": (lambda: request(key=rsa_key(2048)), "the key must be"),
    "small curve": (lambda: request(key=ec.generate_private_key(ec.SECP224R1())), "the key must be"),
    "other curve": (lambda: request(key=ec.generate_private_key(ec.SECP256K1())), "the key must be"),
    "Ed25519": (lambda: request(key=ed25519.Ed25519PrivateKey.generate(), algorithm=None), "SHA-256"),
    "nothing": (lambda: "", "not one certificate request"),
    "two of them": (lambda: request() * 2, "not one certificate request"),
    "text before": (lambda: f"x\n{request()}", "not one certificate request"),
    "cut": (lambda: request()[:200], "not one certificate request"),
    "long": (lambda: request((O, GROUP), *((OU, "x" * 60),) * 60, (CN, EAST)), "not one certificate request"),
    "a private key": (
        lambda: KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        "not one certificate request",
    ),
}


@pytest.mark.parametrize("case", EVIL)
def test_everything_else_is_denied_with_its_reason(case: str) -> None:
    """S03: more groups, system:masters, other names, extensions, weak keys, junk."""
    make, why = EVIL[case]
    with pytest.raises(RequestDenied, match=why):
        check_request(make(), "east")


def test_a_request_that_another_key_signed_is_denied() -> None:
    """S03: who asks must hold the key."""
    genuine = x509.load_pem_x509_csr(request().encode()).public_bytes(serialization.Encoding.DER)
    broken = genuine[:-2] + bytes([genuine[-2] ^ 1, genuine[-1] ^ 1])
    import base64

    body = base64.encodebytes(broken).decode()
    with pytest.raises(RequestDenied):
        check_request(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n", "east")


def certificate(**more: Any) -> x509.Certificate:
    asked: dict[str, Any] = {
        "target": "east", "cluster_uid": "u1", "registration_uid": "r1", "generation": 3, "now": NOW, **more
    }  # fmt: skip
    return x509.load_pem_x509_certificate(issue(authority(), KEY.public_key(), **asked))


def test_what_is_signed_is_a_client_certificate_and_nothing_more() -> None:
    """S03: subject, usages, names and life are the hub's own."""
    found = certificate()
    assert found.subject.rfc4514_string() == f"CN={EAST},O={GROUP}"
    assert found.public_key() == KEY.public_key()
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["syncline:registration:r1:3:u1"]
    assert found.not_valid_after_utc == NOW + LIFETIME


def test_a_certificate_never_outlives_its_authority() -> None:
    late = NOW + timedelta(days=3640)
    assert (
        certificate(now=late).not_valid_after_utc
        == x509.load_pem_x509_certificate(authority().certificate).not_valid_after_utc
    )
    with pytest.raises(ValueError, match="expired"):
        certificate(now=NOW + timedelta(days=3651))


def test_the_longest_name_fits_into_a_common_name() -> None:
    assert (
        certificate(target="x" * 40).subject.get_attributes_for_oid(CN)[0].value == f"system:syncline:target:{'x' * 40}"
    )


def test_the_hash_of_a_key_is_of_the_key_alone() -> None:
    assert key_hash(KEY.public_key()) == key_hash(check_request(request(), "east"))
    assert key_hash(rsa_key(3072).public_key()) != key_hash(KEY.public_key())
