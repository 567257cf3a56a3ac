"""What an agent is, in one folder that nobody else may read.

| file | holds |
|---|---|
| `agent.pem` | private key and client certificate, in one file, so that both change at once |
| `hub-ca.crt` | the hub's authority; nothing else is trusted |
| `agent.json` | hub, target, UID of this cluster, which token was used |
| `pending.key` | the key of a request that is not approved yet |
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import stat
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syncer.agent.http import route_to, send
from syncer.api.names import ORGANIZATION, common_name
from syncer.api.shapes import RenewAnswer, RenewRequest
from syncer.errors import SyncError
from tunneler.links.dial import client_tls

FILES: Final = ("agent.pem", "hub-ca.crt", "agent.json", "pending.key")
RENEW_PATH: Final = "/registrations/v1/renew"
RENEW_FROM, RENEW_TO = 0.5, 0.7  # of its life, spread; tries that fail go on until its end
RETRY_SECONDS: Final = (30.0, 600.0)
LOOK_SECONDS: Final = 3600.0  # longest sleep: machines are suspended, and clocks are set

log = structlog.get_logger()


class Unusable(SyncError):
    """The folder cannot be used.

    Attributes:
        cause, hint: for people.
    """

    def __init__(self, cause: str, hint: str = "Join again with a new token: syncline token create TARGET") -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """`agent.json`."""

    hub: str
    target: str
    cluster_uid: str = msgspec.field(name="clusterUID")
    token_id: str = msgspec.field(name="tokenID", default="")


class AgentCredentials:
    """An agent's folder after it joined. Raises Unusable if it did not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._description = msgspec.json.decode((folder / "agent.json").read_bytes(), type=Description)
            self.certificate()
        except FileNotFoundError:
            raise Unusable(f"{folder} holds no credentials of an agent") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise Unusable(f"{folder} is damaged: {error}") from None

    @property
    def hub(self) -> str:
        """URL that was joined."""
        return self._description.hub

    @property
    def target(self) -> str:
        """Name of the target."""
        return self._description.target

    @property
    def cluster_uid(self) -> str:
        """UID of the `kube-system` namespace of the cluster that joined."""
        return self._description.cluster_uid

    @property
    def token_id(self) -> str:
        """Which token it joined with."""
        return self._description.token_id

    def certificate(self) -> x509.Certificate:
        """The present certificate. Raises OSError, ValueError."""
        return x509.load_pem_x509_certificate((self.folder / "agent.pem").read_bytes())

    def ended(self, *, now: datetime) -> str:
        """That the certificate is over, and what to do, for people; "" while it is not. Raises OSError, ValueError."""
        end = self.certificate().not_valid_after_utc
        if now <= end:
            return ""
        return f"the agent's certificate ended on {end:%Y-%m-%d %H:%M} UTC: join again with a new token"

    def context(self) -> ssl.SSLContext:
        """For a new connection: the hub's authority alone, and the certificate as it is in the folder now."""
        pair = str(self.folder / "agent.pem")
        return client_tls(str(self.folder / "hub-ca.crt"), certificate=(pair, pair))


def open_folder(folder: Path) -> None:
    """Make the folder, for its owner alone.

    Raises:
        Unusable: it exists, and others may look into it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        if any(folder.iterdir()):
            raise Unusable(f"others may look into {folder}", f"Run chmod 700 {folder}, or choose another folder.")
        folder.chmod(0o700)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once, readable for its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that never leaves this machine."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PEM, not encrypted: the file's mode guards it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_request(key: ec.EllipticCurvePrivateKey, target: str) -> str:
    """A request for the certificate of a target's agent, PEM."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name(target)),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def check_issued(certificate: str, key: ec.EllipticCurvePrivateKey, target: str) -> bytes:
    """What the hub signed, PEM, if it belongs to the key and the target. Raises Unusable."""
    try:
        issued = x509.load_pem_x509_certificate(certificate.encode("ascii"))
        names = [name.value for name in issued.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except ValueError:
        raise Unusable("the hub answered with no certificate", "Are hub and agent of one version?") from None
    if names != [common_name(target)] or issued.public_key() != key.public_key():
        raise Unusable("the hub answered with somebody else's certificate", "Report this; it is a bug of the hub.")
    return issued.public_bytes(serialization.Encoding.PEM)


def save(folder: Path, key: ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
    """Key and certificate, both at once."""
    write_private(folder / "agent.pem", key_pem(key) + certificate)


def seconds_to_renewal(certificate: x509.Certificate, fraction: float, *, now: datetime) -> float:
    """Until the given part of its life is over; 0 if it is. With a clock that is behind, counted from now on.

    Args:
        now: UTC.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    life = (end - begin).total_seconds()
    return min(max(0.0, fraction * life - (now - begin).total_seconds()), fraction * life)


async def renew(credentials: AgentCredentials, *, hub: str = "", proxy: str | None = None) -> None:
    """Get a certificate for a new key, shown the present one; new connections use it at once.

    Args:
        hub: URL; "" is the one that was joined.
    Raises:
        SyncError: no certificate; the present one stays.
    """
    key = new_key()
    asked = RenewRequest(cluster_uid=credentials.cluster_uid, request=certificate_request(key, credentials.target))
    answer = await send(
        route_to(hub or credentials.hub, proxy),
        "POST",
        RENEW_PATH,
        tls=credentials.context(),
        body=msgspec.json.encode(asked),
    )
    if answer.status != 200:
        raise Unusable(f"the hub did not renew the certificate: HTTP {answer.status}, {told(answer.body)}")
    try:
        renewed = msgspec.json.decode(answer.body, type=RenewAnswer)
        # Told by a hub that this folder's authority vouched for: so one authority hands over to the next (F33).
        authority = renewed.authority.encode("ascii")
        if authority:  # hubs of before do not tell
            x509.load_pem_x509_certificates(authority)
    except (msgspec.DecodeError, ValueError):
        raise Unusable("the hub did not answer as a hub does", "Are hub and agent of one version?") from None
    save(credentials.folder, key, check_issued(renewed.certificate, key, credentials.target))
    if authority:
        write_private(credentials.folder / "hub-ca.crt", authority)


async def keep_renewed(
    credentials: AgentCredentials,
    *,
    hubs: Callable[[], Sequence[str]],
    proxy: str | None = None,
    keep: Callable[[], Awaitable[None]] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rng: random.Random | None = None,
) -> None:
    """Renew at 50-70 % of each certificate's life, and go on trying where that fails, until cancelled.

    Args:
        hubs: URLs, at least one, asked in turn, for one of them may have moved away.
        keep: called when the folder changed; it is tried again where it fails.
    """
    rng = rng or random.Random()  # noqa: S311 (spreads load, guards nothing)
    fraction, failures = rng.uniform(RENEW_FROM, RENEW_TO), 0
    changed = False
    while True:
        wait = seconds_to_renewal(credentials.certificate(), fraction, now=now())
        if wait >= 1 and not changed:
            await sleep(min(wait, LOOK_SECONDS))
            continue
        try:
            if not changed:
                known = hubs()
                await renew(credentials, hub=known[failures % len(known)], proxy=proxy)
                changed = True
            if keep is not None:
                await keep()
            changed = False
        except (SyncError, OSError) as error:
            failures += 1
            pause = min(RETRY_SECONDS[0] * 2 ** min(failures - 1, 10), RETRY_SECONDS[1]) * rng.uniform(0.5, 1.0)
            log.warning("certificate not renewed", target=credentials.target, error=str(error), again_seconds=pause)
            await sleep(pause)
            continue
        fraction, failures = rng.uniform(RENEW_FROM, RENEW_TO), 0
        log.info("certificate renewed", target=credentials.target)


def told(body: bytes) -> str:
    """The message of a Kubernetes `Status`, cut; for people."""
    try:
        message = msgspec.json.decode(body)["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return "no reason given"
    return str(message)[:500]
