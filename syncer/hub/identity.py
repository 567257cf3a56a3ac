"""Which target an agent speaks for: its certificate, checked against what is registered now. Pure but for the request.

A certificate says who asked for it: target, registration and cluster. Whether that still counts is decided at every
connection and every stream, against the ClusterRegistrations and SyncTargets of this moment: nothing needs a list of
revoked certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from syncer.api.names import COMMON_NAME_PREFIX, ORGANIZATION
from syncer.api.registration import ClusterRegistration
from syncer.api.synctarget import SyncTarget
from syncer.errors import SyncError
from syncer.hub.certificates import issued_by

AUTHORITY_NAME: Final = "syncline-agent-ca"
URI_SCHEME: Final = "syncline:registration:"
SKEW_SECONDS: Final = 60.0  # of clocks, for the end of a certificate

log = structlog.get_logger()


@dataclass(frozen=True)
class AgentIdentity:
    """Who an agent is, as its certificate proves.

    Attributes:
        cluster_uid: UID of the `kube-system` namespace of the cluster that joined.
        registration_uid: of the ClusterRegistration; another one under the same name is another registration.
        registration_generation: which registration of the target it was.
    """

    target: str
    cluster_uid: str
    registration_uid: str
    registration_generation: int

    def uri(self) -> str:
        """How the certificate says it."""
        return f"{URI_SCHEME}{self.registration_uid}:{self.registration_generation}:{self.cluster_uid}"


class IdentityRefused(SyncError):
    """No agent of a target. The text is for the agent's operator, and names both identities where they differ.

    Attributes:
        status: 401 the certificate is none of ours or over, 403 it does not count any more, 503 nobody knows yet.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Closed:
    """Links of a target that are up must end now."""

    target: str
    reason: str


@dataclass(frozen=True)
class Binding:
    """The registration that a target stands on."""

    registration: str  # name of the ClusterRegistration
    registration_uid: str
    generation: int
    cluster_uid: str


def read_identity(certificate: bytes, authorities: Sequence[x509.Certificate], *, now: datetime) -> AgentIdentity:
    """What a certificate of ours says.

    Args:
        certificate: DER, of the TLS peer.
        authorities: the agents' own, more than one while one takes the other's place. That the TLS handshake took the
            certificate is not enough: it also takes those of upstream's users.
        now: UTC.
    Raises:
        IdentityRefused: 401.
    """
    try:
        found = x509.load_der_x509_certificate(certificate)
        if not any(issued_by(found, authority) for authority in authorities):
            raise IdentityRefused(401, "this certificate was not issued to an agent")
        usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        subject = [(attribute.oid, str(attribute.value)) for attribute in found.subject]
    except (ValueError, TypeError, x509.ExtensionNotFound):
        raise IdentityRefused(401, "this certificate was not issued to an agent") from None
    if list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH] or found.not_valid_before_utc > now:
        raise IdentityRefused(401, "this certificate was not issued to an agent")
    if (now - found.not_valid_after_utc).total_seconds() > SKEW_SECONDS:
        raise IdentityRefused(401, f"the certificate ended on {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    parts = uris[0].removeprefix(URI_SCHEME).split(":") if len(uris) == 1 and uris[0].startswith(URI_SCHEME) else []
    common = [value for oid, value in subject if oid == NameOID.COMMON_NAME]
    groups = [value for oid, value in subject if oid == NameOID.ORGANIZATION_NAME]
    ours = len(subject) == 2 and len(common) == 1 and common[0].startswith(COMMON_NAME_PREFIX)
    if not ours or groups != [ORGANIZATION] or len(parts) != 3 or not (parts[1].isascii() and parts[1].isdecimal()):
        raise IdentityRefused(401, "this certificate was not issued to an agent")
    target = common[0].removeprefix(COMMON_NAME_PREFIX)
    return AgentIdentity(target, parts[2], parts[0], int(parts[1]))


def mismatch(target: str, known_uid: str, asked_uid: str) -> str:
    """The words for two clusters under one name; both are named (B40)."""
    return f"target {target} is the cluster {known_uid}, and this is the cluster {asked_uid}"


class Bindings:
    """What is registered now. Fed with every change of both kinds; tells which targets' links must end.

    A target is bound while its SyncTarget exists with a tunnel, and a ClusterRegistration for it is Approved; the one
    with the highest generation counts.

    Args:
        closed: told once for each target whose registration ended or was replaced.
    """

    def __init__(self, closed: Callable[[Closed], None]) -> None:
        self._closed = closed
        self._registrations: dict[str, dict[str, Binding]] = {}  # {target: {registration: binding}}
        self._targets_of: dict[str, str] = {}  # {registration: target}
        self._tunnels: set[str] = set()  # targets whose SyncTarget exists and is reached by a tunnel
        self._bound: dict[str, Binding] = {}

    def of(self, target: str) -> Binding | None:
        """What counts for a target; None: no agent speaks for it."""
        return self._bound.get(target)

    def registration(self, name: str, found: ClusterRegistration | None) -> None:
        """A ClusterRegistration is so now; None: gone."""
        known = self._targets_of.get(name)
        if found is None or not counts(found):
            self._targets_of.pop(name, None)
            if known is not None:
                self._registrations.get(known, {}).pop(name, None)
                self._settle(known, _why(found))
            return
        target = found.spec.target_name
        self._targets_of[name] = target
        generation = found.status.registration_generation
        self._registrations.setdefault(target, {})[name] = Binding(
            name, found.metadata.uid, generation, found.spec.cluster_uid
        )
        self._settle(target, f"registration {generation} of the target took its place")

    def sync_target(self, name: str, found: SyncTarget | None) -> None:
        """A SyncTarget is so now; None: gone. One that is being deleted stays bound: what it holds is cleaned first."""
        if found is not None and found.spec.connection.tunnel is not None:
            self._tunnels.add(name)
        else:
            self._tunnels.discard(name)
        self._settle(name, "its SyncTarget is gone" if found is None else "its SyncTarget is reached without a tunnel")

    def _settle(self, target: str, reason: str) -> None:
        bindings = self._registrations.get(target, {})
        if not bindings:
            self._registrations.pop(target, None)
        best = max(bindings.values(), key=lambda one: (one.generation, one.registration), default=None)
        before, after = self._bound.get(target), best if target in self._tunnels else None
        if after is None:
            self._bound.pop(target, None)
        else:
            self._bound[target] = after
        if before is not None and (after is None or after.registration_uid != before.registration_uid):
            self._closed(Closed(target, reason))


def counts(registration: ClusterRegistration) -> bool:
    """Whether a registration lets its agent in. A denial counts as soon as it is said, not when it was worked on."""
    return (
        registration.status.phase == "Approved"
        and registration.spec.decision != "Denied"
        and registration.metadata.deletion_timestamp is None
    )


def _why(found: ClusterRegistration | None) -> str:
    if found is None or found.metadata.deletion_timestamp is not None:
        return "its registration was deleted"
    if found.spec.decision == "Denied":
        return "its registration was denied"
    return found.status.message or f"its registration is {found.status.phase}"


class Identities:
    """Answers who an agent is. One per replica; `syncer.hub.registered` keeps its bindings up to date.

    Attributes:
        on_closed: told of each target whose links must end now.
        problem: why nobody can be told yet; "" once everything registered is known.
    """

    def __init__(self, authority: bytes, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Args: authority: the agents' authorities, PEM."""
        self._authorities = x509.load_pem_x509_certificates(authority)
        self._clock = clock
        self.on_closed: list[Callable[[Closed], None]] = []
        self.bindings = Bindings(self._tell)
        self.problem = "the registrations are being read"

    def authenticate_request(self, request: web.Request) -> AgentIdentity:
        """The agent at the other end of a request's TLS connection. Raises IdentityRefused."""
        return self.authenticate(peer_certificate(request))

    def authenticate(self, certificate: bytes | None) -> AgentIdentity:
        """The agent that showed this certificate in the TLS handshake.

        Args:
            certificate: DER; None: none was shown.
        Raises:
            IdentityRefused.
        """
        if certificate is None:
            raise IdentityRefused(401, "show the client certificate that syncline join gave to this agent")
        identity = read_identity(certificate, self._authorities, now=self._clock())
        if self.problem:
            raise IdentityRefused(503, self.problem)
        why = self.still_valid(identity)
        if why:
            log.warning("agent refused", target=identity.target, why=why)
            raise IdentityRefused(403, why)
        return identity

    def still_valid(self, identity: AgentIdentity) -> str:
        """Why an identity does not count any more; "" while it does. Cheap: it is asked for every stream."""
        bound = self.bindings.of(identity.target)
        if bound is None:
            return f"target {identity.target} has no registration that is approved: join again"
        if bound.cluster_uid != identity.cluster_uid:
            return mismatch(identity.target, bound.cluster_uid, identity.cluster_uid)
        if bound.registration_uid != identity.registration_uid:
            return (
                f"registration {identity.registration_generation} of target {identity.target} was replaced by "
                f"registration {bound.generation}"
            )
        return ""

    def check_cluster(self, identity: AgentIdentity, claimed_uid: str) -> None:
        """The cluster behind the agent must be the one that joined; an agent tells its UID when it connects.

        Raises:
            IdentityRefused: 403, with both.
        """
        if claimed_uid != identity.cluster_uid:
            shown = claimed_uid[:64] if claimed_uid else "(not told)"
            why = mismatch(identity.target, identity.cluster_uid, shown)
            log.warning("agent refused", target=identity.target, why=why)
            raise IdentityRefused(403, f"{why}; a cluster that was built anew must join again")

    def _tell(self, closed: Closed) -> None:
        log.info("target unbound", target=closed.target, reason=closed.reason)
        for listener in self.on_closed:
            listener(closed)


def peer_certificate(request: web.Request) -> bytes | None:
    """DER of the client certificate that the TLS handshake of this request's connection took; None without one."""
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    found: bytes | None = connection.getpeercert(binary_form=True) if connection is not None else None
    return found


def issued_to_agent(certificate: Mapping[str, object]) -> bool:
    """Whether a checked certificate names an agent, so that it is no user of upstream.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert()` gives it.
    """
    subject, issuer = (
        [pair for part in found for pair in part] if isinstance(found := certificate.get(whose), tuple) else []
        for whose in ("subject", "issuer")
    )
    return ("commonName", AUTHORITY_NAME) in issuer or any(
        (kind == "commonName" and value.startswith(COMMON_NAME_PREFIX)) or (value == ORGANIZATION)
        for kind, value in subject
    )
