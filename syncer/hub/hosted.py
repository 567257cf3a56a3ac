"""The Secrets of an upstream that the chart hosts: its authority, certificates and kubeconfigs. Pure but for keys.

What is still good is kept, byte for byte, so that asking again changes nothing. Certificates live 90 days and are made
anew at two thirds of that; kube-apiserver, kube-controller-manager and the operator read files again by themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syncer.hub.certificates import (
    BACKDATE,
    RENEW_AFTER,
    KeyPair,
    check_authority,
    issue_client,
    issue_server,
    issued_by,
    make_authority,
)

SERVICE: Final = "syncline-upstream"
PORT: Final = 6443
AUTHORITY: Final = f"{SERVICE}-ca"
SERVER: Final = f"{SERVICE}-server"
CONTROLLERS: Final = f"{SERVICE}-controllers"
OPERATOR: Final = f"{SERVICE}-operator"
ADMIN: Final = f"{SERVICE}-admin"
NAMES: Final = (AUTHORITY, SERVER, CONTROLLERS, OPERATOR, ADMIN)

# {Secret: (user, group) of its client certificate}; the operator's rights are those of deploy/rbac, nothing more.
_USERS: Final = {
    CONTROLLERS: ("system:kube-controller-manager", ""),
    OPERATOR: ("syncline-operator", ""),
    ADMIN: ("syncline-upstream-admin", "system:masters"),
}
CERTIFICATE, KEY, CA = "tls.crt", "tls.key", "ca.crt"
ACCOUNT_KEY: Final = "service-account.key"
KUBECONFIG: Final = "kubeconfig"

Data = Mapping[str, bytes]


def service_name(namespace: str) -> str:
    """The name of the API server that every certificate carries first."""
    return f"{SERVICE}.{namespace}.svc"


def server_names(namespace: str, extra: Iterable[str] = ()) -> list[str]:
    """Every name and address that the API server answers to."""
    own = [SERVICE, f"{SERVICE}.{namespace}", service_name(namespace), "localhost", "127.0.0.1"]
    inside = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    return list(dict.fromkeys([*own, *inside, *extra]))


def secrets(
    present: Mapping[str, Data], *, namespace: str, now: datetime, names: Iterable[str] = ()
) -> dict[str, dict[str, bytes]]:
    """What each Secret should hold, `{name: data}`.

    Args:
        present: what they hold now; those that are missing or damaged are made anew.
        names: further names and addresses of the API server.
        now: UTC.
    Raises:
        ValueError: the authority cannot sign any more. It is never replaced by itself: every kubeconfig that was handed
            out trusts it.
    """
    authority = _authority(present.get(AUTHORITY, {}), now)
    hosts = server_names(namespace, names)
    server = _kept(present.get(SERVER, {}), authority, now, hosts=hosts)
    server = server or issue_server(authority, hosts, now=now, name=SERVICE)
    held = (present.get(name, {}).get(ACCOUNT_KEY) for name in (SERVER, CONTROLLERS))
    account_key = next(filter(None, held), None) or _key()
    made: dict[str, dict[str, bytes]] = {
        AUTHORITY: _files(authority),
        SERVER: {**_files(server), CA: authority.certificate, ACCOUNT_KEY: account_key},
    }
    for name, (user, group) in _USERS.items():
        pair = _kept(present.get(name, {}), authority, now, user=user)
        pair = pair or issue_client(authority, user, group, now=now)
        address = "127.0.0.1" if name == CONTROLLERS else service_name(namespace)
        config = kubeconfig(f"https://{address}:{PORT}", user, None if name != ADMIN else (authority, pair))
        made[name] = {**_files(pair), CA: authority.certificate, KUBECONFIG: config}
    made[CONTROLLERS][ACCOUNT_KEY] = account_key
    made[CONTROLLERS]["signer.crt"], made[CONTROLLERS]["signer.key"] = authority.certificate, authority.key
    return made


def _authority(data: Data, now: datetime) -> KeyPair:
    if not data:
        return make_authority(now=now, name=AUTHORITY)
    pair = KeyPair(data.get(CERTIFICATE, b""), data.get(KEY, b""))
    try:
        check_authority(pair, now=now)
    except ValueError as error:
        raise ValueError(f"Secret {AUTHORITY}: {error}") from error
    return pair


def _kept(
    data: Data, authority: KeyPair, now: datetime, *, hosts: Iterable[str] | None = None, user: str = ""
) -> KeyPair | None:
    """The pair that is there, if it is of this authority, not due, and for these hosts or this user."""
    try:
        certificate = x509.load_pem_x509_certificate(data[CERTIFICATE])
        key = serialization.load_pem_private_key(data[KEY], password=None)
        issuer = x509.load_pem_x509_certificate(authority.certificate)
    except (KeyError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    if not issued_by(certificate, issuer) or now - certificate.not_valid_before_utc > RENEW_AFTER + BACKDATE:
        return None
    if now > certificate.not_valid_after_utc:
        return None
    if hosts is not None and _hosts(certificate) != set(hosts):
        return None
    if user and [one.value for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] != [user]:
        return None
    return KeyPair(data[CERTIFICATE], data[KEY])


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(one.value) for one in names}


def _files(pair: KeyPair) -> dict[str, bytes]:
    return {CERTIFICATE: pair.certificate, KEY: pair.key}


def _key() -> bytes:
    """A private key that signs ServiceAccount tokens; it stays, or every token would be void.

    In the form (SEC 1) of which kube-apiserver takes the public half as well.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def kubeconfig(server: str, user: str, inline: tuple[KeyPair, KeyPair] | None) -> bytes:
    """A kubeconfig as YAML.

    Args:
        inline: authority and client pair to be put into it; None names the files beside it, which are read again.
    """
    cluster: dict[str, Any] = {"server": server}
    who: dict[str, Any] = {}
    if inline is None:
        cluster["certificate-authority"] = CA
        who |= {"client-certificate": CERTIFICATE, "client-key": KEY}
    else:
        authority, pair = inline
        cluster["certificate-authority-data"] = _base64(authority.certificate)
        who |= {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "upstream", "cluster": cluster}],
        "users": [{"name": user, "user": who}],
        "contexts": [{"name": "upstream", "context": {"cluster": "upstream", "user": user}}],
        "current-context": "upstream",
    }
    return yaml.safe_dump(config, sort_keys=False).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
