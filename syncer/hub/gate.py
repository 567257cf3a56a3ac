"""Lets agents in: what the tunnel's listener asks about an agent, from its certificate and the registrations."""

from __future__ import annotations

from aiohttp import web

from syncer.hub.identity import AgentIdentity, Identities, IdentityRefused
from tunneler.errors import HandshakeRefused, TunnelError
from tunneler.frames import Hello


class IdentityGate:
    """One per replica. All links of a target stand on one registration; `Identities.on_closed` ends the others."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._agents: dict[str, AgentIdentity] = {}  # {target: of the newest handshake}

    async def authenticate(self, request: web.Request) -> str:
        """The target that the certificate of this connection speaks for.

        Raises:
            HandshakeRefused: 401, 403 or 503, with the reason for people.
        """
        try:
            identity = self._identities.authenticate_request(request)
        except IdentityRefused as error:
            raise HandshakeRefused(error.status, str(error)) from None
        self._agents[identity.target] = identity
        return identity.target

    def admit(self, target: str, hello: Hello) -> None:
        """The cluster behind the agent must be the one that joined. Raises TunnelError."""
        try:
            self._identities.check_cluster(self._agents[target], hello.cluster_uid)
        except IdentityRefused as error:
            raise TunnelError(str(error)) from None

    def refusal(self, target: str) -> str:
        """Why no stream may be opened now; "" if one may."""
        identity = self._agents.get(target)
        return self._identities.still_valid(identity) if identity is not None else f"target {target} never connected"

    def identity(self, target: str) -> AgentIdentity | None:
        """Whose links are up, or were last."""
        return self._agents.get(target)
