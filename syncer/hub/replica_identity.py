"""Who is a replica: a client certificate of the hub's authority, whose key only replicas can read.

Each process makes one for itself at its start; it names the replica, and opens nothing but `syncer.hub.forwarding`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from syncer.hub.certificates import RENEW_AFTER, KeyPair, issue_replica, issued_by, load_pair

COMMON_NAME: Final = "system:syncline:replica"


class ReplicaIdentity:
    """This replica's certificate, made anew at two thirds of its life, and the check of the others'."""

    def __init__(
        self, authority: KeyPair, replica: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Args: authority: the hub's. replica: id of this process. clock: UTC."""
        self._authority = authority
        self._issuers = x509.load_pem_x509_certificates(authority.bundle)
        self._replica = replica
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._issued = clock()

    def context(self) -> ssl.SSLContext:
        """For connections to other replicas: TLS 1.3, the hub's authorities alone, our certificate.

        Raises:
            ValueError: the authority cannot sign any more.
        """
        now = self._clock()
        if self._context is None or now - self._issued > RENEW_AFTER:
            context = ssl.create_default_context(cadata=self._authority.bundle.decode("ascii"))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            load_pair(context, issue_replica(self._authority, COMMON_NAME, self._replica, now=now))
            self._context, self._issued = context, now
        return self._context

    def replica(self, certificate: bytes | None) -> str:
        """Id of the replica that showed a certificate, DER; "" if no replica did."""
        try:
            found = x509.load_der_x509_certificate(certificate or b"")
            usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (ValueError, x509.ExtensionNotFound):
            return ""
        names = {name.oid: str(name.value) for name in found.subject}
        ours = list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH] and names.get(NameOID.COMMON_NAME) == COMMON_NAME
        living = found.not_valid_before_utc <= self._clock() <= found.not_valid_after_utc
        signed = any(issued_by(found, issuer) for issuer in self._issuers)
        return names.get(NameOID.ORGANIZATIONAL_UNIT_NAME, "") if ours and living and signed else ""


def issued_to_replica(certificate: Mapping[str, object]) -> bool:
    """Whether a checked certificate names a replica, so that it is no user of upstream.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert()` gives it.
    """
    subject = certificate.get("subject")
    return isinstance(subject, tuple) and any(("commonName", COMMON_NAME) in part for part in subject)
