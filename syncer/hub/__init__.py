"""The hub: what this process answers over HTTP.

Reading order: `certificates` (our authority, pure), `auth` (who asks, may they), `api` (what the CLI reads), `health`
(plain HTTP), `hub` (authority and address kept upstream, the HTTPS listener), `listener` (sockets). Then the APIs of
targets: `proxy_headers` (pure), `proxy_exchange` (connections), `proxy` (the handler), `tunnel_targets` (streams).
Joining: `bootstrap`, `agent_certificates`, `identity` (pure), `registered` (follows upstream), `gate`, `registrations`.
"""
