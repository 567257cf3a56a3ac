"""Lets agents in: what the tunnel's listener asks about an agent, from its certificate and the registrations."""

from __future__ import annotations

from aiohttp import web

from syncer.hub.identity import AgentIdentity, Identities, IdentityRefused
from tunneler.errors import HandshakeRefused, TunnelError
from tunneler.frames import Hello
from tunneler.links.listen import Peer


class IdentityGate:
    """One per replica. It remembers nothing: each session carries the identity that its own handshake proved, so a
    newer registration lends nothing to a session that was on its way."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    async def authenticate(self, request: web.Request) -> Peer:
        """The target that the certificate of this connection speaks for, with its `AgentIdentity`.

        Raises:
            HandshakeRefused: 401, 403 or 503, with the reason for people.
        """
        try:
            identity = self._identities.authenticate_request(request)
        except IdentityRefused as error:
            raise HandshakeRefused(error.status, str(error)) from None
        return Peer(identity.target, identity)

    def admit(self, proof: object, hello: Hello) -> None:
        """The identity still counts, and the cluster behind the agent is the one that joined. Raises TunnelError."""
        refused = self.refusal(proof)
        if refused:
            raise TunnelError(refused)
        assert isinstance(proof, AgentIdentity)
        try:
            self._identities.check_cluster(proof, hello.cluster_uid)
        except IdentityRefused as error:
            raise TunnelError(str(error)) from None

    def refusal(self, proof: object) -> str:
        """Why no stream may be opened now; "" if one may."""
        assert isinstance(proof, AgentIdentity)
        return self._identities.still_valid(proof)
