"""Streams over one WebSocket. Knows bytes and stream ids, not Kubernetes.

Users of the tunnel need `ports` (streams are asyncio transports) and `errors` only.
"""
