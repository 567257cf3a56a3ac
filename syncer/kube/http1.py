"""Heads and frames of HTTP/1.1, strict, for those who pass messages on: the agent's service and the hub's proxy.

Pure: bytes in, values out. `httptools` (llhttp without any leniency) reads heads, so that what we authorise is what the
next server reads. A message that two servers could read differently is refused, never repaired. Bodies stay raw; what
follows the end of a message is never passed on.
Source: RFC 9112 sections 3 to 7, and section 11 on smuggling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import httptools
import orjson

HEAD_LIMIT: Final = 65_536  # bytes of a head
HEADER_LIMIT: Final = 128  # lines; kubectl sends below 20. Groups of an impersonated user are not counted
INFORMATIONAL_LIMIT: Final = 16  # answers 1xx before the final one
END: Final = b"\r\n\r\n"
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_PHRASES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
# Ours alone: what is not of this form some server reads as another header (`X_Remote_User`), or drops.
_NAME = re.compile(rb"[a-z0-9-]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers = list[tuple[bytes, bytes]]  # names in lower case, in the order of the message


class BadMessage(Exception):
    """The peer broke HTTP, or a limit. Its connection ends after the answer.

    Attributes:
        status: what to answer to a request.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's first line and headers.

    Attributes:
        target: as sent, nothing decoded.
        length: bytes of the body; None if it comes in chunks.
        upgrade: the protocol asked for, as sent; b"" for none.
        keep_alive: the connection may carry another request afterwards.
    """

    method: str
    target: str
    headers: Headers
    length: int | None
    upgrade: bytes
    keep_alive: bool

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the head."""
        return self.length != 0


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """An answer's first line and headers; `raw` is all of it as it came."""

    status: int
    headers: Headers
    raw: bytes
    keep_alive: bool

    def header(self, name: bytes) -> bytes:
        """The first value, b"" if there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    def without(self, names: Collection[bytes], *, closing: bool = False) -> bytes:
        """The head without the headers of these names; `closing` adds that the connection ends."""
        if not closing and not any(name in names for name, _ in self.headers):
            return self.raw
        kept = [(name, value) for name, value in self.headers if name not in names]
        if closing:
            kept.append((b"connection", b"close"))
        return serialize(self.raw[: self.raw.index(b"\r\n")], kept)

    def end_to_end(self, *, closing: bool = False) -> bytes:
        """The head without the headers that concern one connection alone; framing stays, for the body stays raw."""
        return self.without(connection_names(self.headers) - {b"transfer-encoding"}, closing=closing)


def connection_names(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Names of the headers that end here: the fixed ones and those that `Connection` names."""
    names = set(HOP_BY_HOP)
    for name, value in headers:
        if name == b"connection":
            names.update(token.strip().lower() for token in value.split(b","))
    # Nobody's framing is dropped because a peer asks for it; who passes a message on decides that.
    return names - {b"content-length", b"host"}


def serialize(line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head from its first line and headers."""
    return b"\r\n".join([line, *(b"%b: %b" % pair for pair in headers), b"", b""])


def parse_request_head(data: bytes) -> RequestHead:
    """Read a head that ends with an empty line.

    Raises:
        BadMessage: anything that is not plain HTTP/1.1.
    """
    if data[:1] in (b"\r", b"\n"):
        raise BadMessage("a request begins with its method")
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadMessage(f"not HTTP/1.1: {error}") from None
    if not collector.complete:
        raise BadMessage("not HTTP/1.1: the head is not whole")
    if parser.get_http_version() != "1.1":
        raise BadMessage("only HTTP/1.1 is spoken here", 505)
    method, headers = parser.get_method().decode("ascii"), collector.headers
    if method in ("CONNECT", "TRACE"):
        raise BadMessage(f"{method} is not answered here")
    length, upgrade = _framing(headers)
    if sum(name == b"host" for name, _ in headers) != 1:
        raise BadMessage("there must be exactly one Host")
    if bool(upgrade) != parser.should_upgrade():
        raise BadMessage("Upgrade and Connection contradict each other")
    if upgrade and length != 0:
        raise BadMessage("an upgrade cannot have a body")
    return RequestHead(
        method, collector.url.decode("ascii", "replace"), headers, length, upgrade, parser.should_keep_alive()
    )


def _framing(headers: Headers) -> tuple[int | None, bytes]:
    """(length or None for chunked, protocol to upgrade to or b"")."""
    length = body_length(headers)
    upgrade = b""
    for name, value in headers:
        if name == b"upgrade":
            if upgrade:
                raise BadMessage("Upgrade is given twice")
            upgrade = value
        elif name == b"expect" and value.lower() != b"100-continue":
            raise BadMessage("an unknown expectation")
    return 0 if length == -1 else length, upgrade


def parse_response_head(data: bytes) -> ResponseHead:
    """Read the head of an answer, up to and with its empty line.

    Raises:
        BadMessage: anything that is not plain HTTP/1.1.
    """
    if not data.startswith(b"HTTP/"):
        raise BadMessage("an answer begins with its version")  # llhttp skips empty lines before it
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        if parser.get_status_code() != 101:  # a 101 without Upgrade; refused by who asked
            raise BadMessage(f"not HTTP/1.1: {error}") from None
    if not collector.complete:
        raise BadMessage("not HTTP/1.1: the head is not whole")
    status = parser.get_status_code()
    if parser.get_http_version() != "1.1" or not 100 <= status < 600:
        raise BadMessage("an answer of HTTP/1.1 is expected, with a status of three digits")
    return ResponseHead(status, collector.headers, data, parser.should_keep_alive())


def body_length(headers: Headers) -> int | None:
    """Bytes of a message's body as its head says, -1 if it does not say; None for chunks.

    Raises:
        BadMessage: two framings, another coding than chunked, or a length that is not one plain number.
    """
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if codings:
        if lengths or [value.lower() for value in codings] != [b"chunked"]:
            raise BadMessage("the only transfer coding is chunked, and without Content-Length")
        return None
    if not lengths:
        return -1
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadMessage("Content-Length must be one number")
    return int(lengths[0])


class _Collector:
    """What llhttp tells of one head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []
        self.complete = False
        self._counted = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._counted += not name.startswith(b"impersonate-")
        if self._counted > HEADER_LIMIT:
            raise BadMessage("too many headers", 431)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


class Chunks:
    """Finds the end of a chunked body in its raw bytes; with `take` it also hands over what the chunks hold."""

    def __init__(self, take: Callable[[bytes], None] | None = None) -> None:
        self.done = False
        self.excess = False  # bytes followed the end
        if take is not None:
            self.on_body = take  # llhttp copies bodies only for those who ask
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    def on_message_complete(self) -> None:
        self.done = True

    def on_message_begin(self) -> None:
        if self.done:
            self.excess = True

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            BadMessage: these are no chunks, or something follows the last one.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadMessage(f"a broken chunk: {error}") from None
        if self.excess:
            raise BadMessage("bytes follow the end of the message")


class ResponseReader:
    """One answer on a connection that is ours to read: gives what may be passed on, and knows its end.

    Attributes:
        head: of the final answer, None until it came; of 1xx only 100 is passed on, and none is remembered.
        complete: every byte of the answer was read.
        framed: the answer itself tells where it ends; else its connection's end does.
        switched: 101; everything from here on is raw.
        reusable: the connection may carry another request; only once complete.
    """

    def __init__(self, method: str, on_head: Callable[[ResponseHead], bytes]) -> None:
        """Args: on_head: called once with the final head; gives the bytes to pass on in its place."""
        self.head: ResponseHead | None = None
        self.complete = False
        self.framed = True
        self.switched = False
        self.reusable = False
        self._informational = 0
        self._method = method
        self._on_head = on_head
        self._buffer = b""
        self._left: int | None = None  # bytes of the body still to come; None: chunks or until the end
        self._chunks: Chunks | None = None

    def feed(self, data: bytes) -> bytes:
        """Read on; returns what may be passed on, b"" for nothing yet.

        Raises:
            BadMessage: the peer broke HTTP; nothing of this piece may be passed on.
        """
        if self.head is not None:
            return self._body(data)
        searched = max(0, len(self._buffer) - len(END) + 1)  # a head in many pieces is not read again from its start
        self._buffer += data
        passed = b""
        while self.head is None:
            end = self._buffer.find(END, searched)
            if end > HEAD_LIMIT or (end < 0 and len(self._buffer) > HEAD_LIMIT):
                raise BadMessage("the head of the answer is too long")
            if end < 0:
                return passed
            head = parse_response_head(self._buffer[: end + 4])
            self._buffer, searched = self._buffer[end + 4 :], 0
            if head.status < 200 and head.status != 101:
                self._informational += 1
                if self._informational > INFORMATIONAL_LIMIT:
                    raise BadMessage("too many informational answers")
                if head.status == 100:
                    passed += _CONTINUE
                continue
            self.head = head
            self._frame(head)
            passed += self._on_head(head)
        rest, self._buffer = self._buffer, b""
        return passed + self._body(rest) if rest else passed

    def feed_eof(self) -> bool:
        """The peer sends no more; True if the answer is whole."""
        if self.head is not None and not self.complete and self._left is None and self._chunks is None:
            self.complete = True
        return self.complete

    def _frame(self, head: ResponseHead) -> None:
        length = body_length(head.headers)
        if head.status in (101, 204) and length not in (-1, 0):
            raise BadMessage(f"an answer {head.status} has no body")
        if head.status == 101:
            self.switched = True
        elif self._method == "HEAD" or head.status in (204, 304):
            self._left, self.complete, self.reusable = 0, True, head.keep_alive
        elif length is None:
            self._chunks = Chunks()
        elif length >= 0:
            self._left = length
            self.complete = self._left == 0
            self.reusable = self.complete and head.keep_alive
        else:
            self.framed = False

    def _body(self, data: bytes) -> bytes:
        if self.switched:
            return data
        if self.complete:
            if data:
                raise BadMessage("bytes follow the end of the answer")
            return data
        assert self.head is not None
        if self._chunks is not None:
            self._chunks.feed(data)
            self.complete = self._chunks.done
        elif self._left is not None:
            if len(data) > self._left:
                raise BadMessage("bytes follow the end of the answer")
            self._left -= len(data)
            self.complete = self._left == 0
        self.reusable = self.complete and self.head.keep_alive
        return data


def plain_name(name: bytes) -> bool:
    """Whether a header's name, in lower case, is one that all servers read alike."""
    return _NAME.fullmatch(name) is not None


def status_body(code: int, message: str, *, retry_after: int = 0, reason: str = "") -> bytes:
    """A Kubernetes `Status` that says no."""
    body: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or _REASONS.get(code, ""),
        "code": code,
    }
    if retry_after:
        body["details"] = {"retryAfterSeconds": retry_after}
    return orjson.dumps(body)


def status_answer(code: int, message: str, *, retry_after: int = 0, close: bool = False, head: bool = False) -> bytes:
    """A whole HTTP answer around `status_body`; the message is a Warning too: kubectl shows those, and of a refused
    discovery only "unknown".

    Args:
        retry_after: seconds; only where the request was certainly not carried out, for clients do retry writes.
        close: tell that the connection ends.
        head: the question was HEAD.
    """
    body = status_body(code, message, retry_after=retry_after)
    lines = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if retry_after:
        lines.append((b"retry-after", b"%d" % retry_after))
    if close:
        lines.append((b"connection", b"close"))
    text = "".join(letter for letter in message if " " <= letter <= "~" and letter not in '"\\')
    lines.append((b"warning", b'299 - "%b"' % text.encode("ascii")))
    line = b"HTTP/1.1 %d %b" % (code, _PHRASES.get(code, "Error").encode())
    return serialize(line, lines) + (b"" if head else body)
