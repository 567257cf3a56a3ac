"""`kubeconfig` and `logs`: the pure parts. What they do with a hub is in tests/e2e/test_tunnel.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syncer.api.shapes import PodInfo, PodList
from syncer.cli.through import MAX_LINE, _Reader, chosen, is_later, lines, printable_line, stamped, user_of
from syncer.kube.kubeconfig import Access, ExecPlugin, Source


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_lines_come_whole_however_they_are_cut() -> None:
    found = [line async for line in lines(pieces(b"one\ntw", b"o\n", b"\nthr", b"ee"))]
    assert found == [b"one", b"two", b"", b"three"]


async def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    found = [line async for line in lines(pieces(b"x" * MAX_LINE, b"y", b"z\n"))]
    assert b"".join(found) == b"x" * MAX_LINE + b"yz"
    assert len(found) == 2


def test_a_line_is_told_from_its_time() -> None:
    assert stamped(b"2026-01-01T00:00:00.000000001Z one two") == ("2026-01-01T00:00:00.000000001Z", b"one two")
    assert stamped(b"2026-01-01T02:00:00+02:00 ") == ("2026-01-01T02:00:00+02:00", b"")
    for line in (b"failed to follow", b"", b"2026-01-01 x", b"\xd9\xa2026-01-01T00:00:00Z x"):
        assert stamped(line) == ("", line)
    assert is_later("2026-01-01T00:00:00.000002Z", "2026-01-01T00:00:00.000001Z")
    assert not is_later("2026-01-01T02:00:00.5+02:00", "2026-01-01T00:00:00.500000000Z")


class Log:
    """A hub whose log breaks off now and then: each reading gives its pieces."""

    def __init__(self, *readings: bytes) -> None:
        self.readings, self.asked = list(readings), list[dict[str, str]]()

    @asynccontextmanager
    async def stream(self, path: str, *, params: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append(params)
        yield pieces(self.readings.pop(0))


async def test_a_log_that_broke_off_goes_on_behind_the_last_line_that_came(capsys: pytest.CaptureFixture[str]) -> None:
    """Not from when the break was noticed: a link may be silent for long before it is given up."""
    at = "2026-01-01T00:00:0{}.000000000Z {}\n".format
    log: Any = Log((at(1, "one") + at(2, "two")).encode(), (at(2, "two") + at(3, "three") + at(1, "odd")).encode(), b"")
    reader, pod = _Reader(log, nobody, True, None, 10), PodInfo(target="east", namespace="shop", name="web")
    since = ""
    for _ in range(3):
        since = await reader._read(pod, since=since)
    assert capsys.readouterr().out.splitlines() == [f"[east/web] {word}" for word in ("one", "two", "three", "odd")]
    assert [params.get("sinceTime") for params in log.asked] == [
        None, "2026-01-01T00:00:02.000000000Z", "2026-01-01T00:00:01.000000000Z"
    ]  # fmt: skip
    assert ["tailLines" in params for params in log.asked] == [True, False, False]


def test_a_log_keeps_its_colours_and_steers_no_terminal() -> None:
    assert printable_line(b"\x1b[31mred\x1b[0m\tpl\xc3\xa4in\r") == "\x1b[31mred\x1b[0m\tpläin"
    assert printable_line(b"a\x1b]0;title\x07b\x1b[2Jc\x00\xff") == "a]0;titleb[2Jc\N{REPLACEMENT CHARACTER}"


def test_pods_of_one_target_only() -> None:
    found = PodList(items=[PodInfo(target="east"), PodInfo(target="west")], unreachable=["north", "west"])
    assert chosen(found, None) is found
    assert chosen(found, "west") == PodList(items=[PodInfo(target="west")], unreachable=["west"])


async def nobody(name: str) -> dict[str, Any]:
    raise AssertionError(f"target {name} was asked for")


async def test_of_a_target_that_is_reached_directly_it_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is asked of it, however many Pods it has."""

    async def find(name: str) -> dict[str, Any]:
        connection: dict[str, Any] = {"tunnel": {}} if name == "west" else {"direct": {}}
        return {"metadata": {"name": name}, "spec": {"connection": connection}}

    log: Any = Log(b"hello\n")
    names = [("east", "a"), ("west", "b"), ("east", "c")]
    found = PodList(items=[PodInfo(target=target, namespace="shop", name=name) for target, name in names])
    assert await _Reader(log, find, False, None, None).read_all(found) == 1
    said = capsys.readouterr()
    assert said.out == "[west/b] hello\n"
    assert said.err == (
        "note: target east is reached directly, not through the hub: read its Pods with its own kubeconfig\n"
    )
    assert len(log.asked) == 1


def test_the_callers_credential_goes_into_the_kubeconfig_as_it_is() -> None:
    """Files stay files, so that what renews them goes on working; nothing is added."""
    inline = Access("https://up", certificate=Source(b"cert"), key=Source(b"key"), token=Source(b"t"))
    assert user_of(inline) == {
        "client-certificate-data": "Y2VydA==",
        "client-key-data": "a2V5",
        "token": "t",
    }
    files = Access("https://up", certificate=Source(path=Path("/c")), key=Source(path=Path("/k")))
    assert user_of(files) == {"client-certificate": "/c", "client-key": "/k"}
    assert user_of(Access("https://up", token=Source(path=Path("/t")))) == {"tokenFile": "/t"}
    plugin = ExecPlugin("client.authentication.k8s.io/v1", "login", ("--now",), {"A": "b"})
    assert user_of(Access("https://up", plugin=plugin))["exec"] == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "login",
        "args": ["--now"],
        "env": [{"name": "A", "value": "b"}],
        "interactiveMode": "IfAvailable",
        "provideClusterInfo": False,
    }
