"""The hub's authority, known by its hash alone.

This is the one place that looks at a certificate that nothing vouches for. It asks for public text, sends nothing but
the name of a path, and believes the answer only if its hash is the one that the person who joins was given. Everything
after it, tokens first of all, goes through connections that are checked against this authority and the hub's name.
"""

from __future__ import annotations

import hmac
import re
import ssl
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from syncer.agent.http import Route, send
from syncer.errors import SyncError
from syncer.hub.certificates import authority_hash

PATH: Final = "/registrations/v1/authority"
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")


class NotPinned(SyncError):
    """What answers is not the hub that the hash names.

    Attributes:
        cause, hint: for people.
    """

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


def check_hash(text: str) -> str:
    """The hash as `authority_hash` writes it. Raises NotPinned for anything else."""
    if not _HASH.fullmatch(text.lower()):
        raise NotPinned(
            "--ca-hash is not sha256: with 64 hexadecimal digits", "Copy it from: syncline token create TARGET"
        )
    return text.lower()


def believe(answer: bytes, ca_hash: str, hub: str) -> bytes:
    """The authority in an answer, PEM, if it is the one of that hash.

    Raises:
        NotPinned.
    """
    try:
        certificate = x509.load_pem_x509_certificate(answer)
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        found = authority_hash(answer)
    except (ValueError, TypeError, x509.ExtensionNotFound):
        raise NotPinned(f"{hub} does not answer as a hub does", "Check --hub.") from None
    if not authority or not hmac.compare_digest(found, ca_hash):
        raise NotPinned(
            f"{hub} shows the authority {found}, and --ca-hash names another; nothing was sent to it",
            "Somebody may be between you and the hub. Is --hub right, and the hash of this installation?",
        )
    return certificate.public_bytes(Encoding.PEM)


async def pin(route: Route, ca_hash: str) -> bytes:
    """Ask the hub for its authority, PEM, and check it.

    Raises:
        NotPinned: it is another one. HubNotReached: no answer.
    """
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    answer = await send(route, "GET", PATH, tls=unchecked)
    if answer.status != 200:
        raise NotPinned(f"{route.hub} does not answer as a hub does: HTTP {answer.status}", "Check --hub.")
    return believe(answer.body, check_hash(ca_hash), route.hub)
