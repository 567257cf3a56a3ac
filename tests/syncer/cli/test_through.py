"""`kubeconfig` and `logs`: the pure parts. What they do with a hub is in tests/e2e/test_tunnel.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from syncer.api.shapes import PodInfo, PodList
from syncer.cli.through import MAX_LINE, chosen, lines, printable_line, user_of
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


def test_a_log_keeps_its_colours_and_steers_no_terminal() -> None:
    assert printable_line(b"\x1b[31mred\x1b[0m\tpl\xc3\xa4in\r") == "\x1b[31mred\x1b[0m\tpläin"
    assert printable_line(b"a\x1b]0;title\x07b\x1b[2Jc\x00\xff") == "a]0;titleb[2Jc\N{REPLACEMENT CHARACTER}"


def test_pods_of_one_target_only() -> None:
    found = PodList(items=[PodInfo(target="east"), PodInfo(target="west")], unreachable=["north", "west"])
    assert chosen(found, None) is found
    assert chosen(found, "west") == PodList(items=[PodInfo(target="west")], unreachable=["west"])


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
