"""Streams over one WebSocket. Knows bytes and stream ids, not Kubernetes.

Users of the tunnel need `ports` (streams are asyncio transports) and `errors`, the hub `manager` and
`links.listen`, an agent `session`, `links.dial` and `manager.LinkKeeper`.

Reading order: `frames` (the wire) → `windows`, `streams`, `scheduler`, `pacing`, `liveness`, `limits` (one rule each)
→ `core`, `protocol` (a session without I/O) → `websocket`, `links` (messages on a socket) → `session`, `transport`
(streams in an event loop) → `connections`, `reconnect`, `manager` (many sessions).
"""
