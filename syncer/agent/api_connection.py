"""The API server's side of a stream of service `kube-api`."""

from __future__ import annotations

import asyncio
from typing import Protocol


class ApiUser(Protocol):
    """The stream that a connection to the API server belongs to."""

    def api_data(self, data: bytes) -> None: ...
    def api_eof(self) -> bool: ...
    def api_lost(self, connection: ApiConnection) -> None: ...
    def api_full(self, full: bool) -> None: ...


class ApiConnection(asyncio.Protocol):
    """One connection; everything it hears goes to the stream."""

    def __init__(self, stream: ApiUser) -> None:
        self._stream = stream

    def data_received(self, data: bytes) -> None:
        self._stream.api_data(data)

    def eof_received(self) -> bool:
        return self._stream.api_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.api_lost(self)

    def pause_writing(self) -> None:
        self._stream.api_full(True)

    def resume_writing(self) -> None:
        self._stream.api_full(False)
