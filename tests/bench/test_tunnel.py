"""The tunnel's benchmark: what the load tool answers, the table, the command line; and that the rig carries bytes."""

from __future__ import annotations

import asyncio
import io
import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench.figures import Goal, Line
from bench.tunnel import __main__ as command
from bench.tunnel.bed import Measured
from bench.tunnel.lines import POINTS, row
from bench.tunnel.load import LoadFailed, Result, binary, compiled, parse_result
from bench.tunnel.report import Row, choose, render
from bench.tunnel_rig import address, end, start_pair
from deploy.local import ports
from deploy.local.errors import GroundError

ECHO: Mapping[str, Any] = {
    "ops": 100, "all_ops": 110, "in": 25600, "all_in": 28160, "out": 0, "all_out": 0,
    "p50_ms": 0.5, "p99_ms": 1.5, "failed": 0,
}  # fmt: skip


def said(**changes: Any) -> str:
    """What `load run` prints last."""
    return json.dumps({"seconds": 2.0, "cpu_seconds": 0.5, "echo": {**ECHO, **changes}})


def test_the_answer_of_the_load_tool_is_read() -> None:
    result = parse_result(said())
    group = result.groups["echo"]
    assert (result.seconds, result.cpu_seconds, group.ops, group.into, group.p99_ms) == (2.0, 0.5, 100, 25600, 1.5)


@pytest.mark.parametrize(
    "text", ["", "measuring", "[]", '{"seconds": 1}', '{"seconds": 1, "cpu_seconds": 1, "echo": 3}']
)
def test_an_answer_that_is_none_is_no_figure(text: str) -> None:
    with pytest.raises(LoadFailed, match="answered"):
        parse_result(text)


def test_a_run_whose_connections_failed_is_no_figure() -> None:
    """A way that drops connections would look fast."""
    with pytest.raises(LoadFailed, match="'echo': 3"):
        parse_result(said(failed=3))


def test_scenarios_are_chosen_in_the_order_of_the_run() -> None:
    assert choose("", ["a", "b"]) == ["a", "b"]
    assert choose(" b , a", ["a", "b", "c"]) == ["a", "b"]
    with pytest.raises(ValueError, match="unknown: x; there are a, b"):
        choose("a,x", ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--only", "nothing"], "nothing"), (["--link", "carrier"], "websockets"), (["-o", "xml"], "table or json")],
)
def test_a_wrong_command_line_is_refused_before_anything_starts(arguments: list[str], word: str) -> None:
    import typer

    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert word in result.output


def test_a_row_is_the_median_of_its_rounds_and_cpu_is_told_for_one_operation() -> None:
    """The work of the warm-up counts as its CPU does."""
    echo = POINTS[0]

    def measured(ops: int, cpu: float) -> Measured:
        return Measured(parse_result(said(ops=ops, all_ops=2 * ops)), cpu, 64 * 1024 * 1024)

    direct, hop = [measured(400, 0.0)], [measured(300, 0.003)]
    ours = [measured(100, 0.002), measured(200, 0.008), measured(180, 0.0036)]
    found = row(echo, [direct, hop, ours])
    assert (found.line.ours, found.line.raw, found.hop) == (90.0, 200.0, 150.0)
    assert found.rounds == (50.0, 100.0, 90.0)
    assert [found.cpu, found.hop_cpu, found.rss_mib] == pytest.approx([10.0, 5.0, 64.0])


def test_every_point_finds_its_figure_in_what_it_asked_for() -> None:
    """The kinds of its load are those that its figure is made of."""
    for point in POINTS:
        words = {kind.partition("=")[0]: ECHO for kind in point.kinds}
        result: Result = parse_result(json.dumps({"seconds": 1.0, "cpu_seconds": 0.1, **words}))
        assert point.value(result) >= 0
        assert point.work(result) >= 0


def test_the_table_shows_each_way_and_the_verdict() -> None:
    line = Line("echo", "echo", "ops/s", 40_000, 120_000, Goal(50_000, at_least=True), "a note", (1.0, 2.0))
    rows = [
        Row(line, hop=50_000, peers="37,000", rounds=(39_000, 41_000), cpu=17.5, hop_cpu=13, cpu_unit="µs/op"),
        Row(Line("dead", "noticed", "s", math.nan, None, Goal(20))),
    ]
    output = io.StringIO()
    Console(width=250, file=output).print(render(rows))
    text = output.getvalue()
    for word in ("40,000", "≥ 50,000", "no", "120,000 (x0.33)", "50,000 (x0.80)", "17.5 (13) µs/op", "39,000 41,000"):
        assert word in text


def test_what_was_not_measured_is_none_in_the_file() -> None:
    found = Row(Line("dead", "noticed", "s", math.nan, None, Goal(20), load=(1.0, 2.0))).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["ours"], found["cpu"], found["rss_mib"], found["reached"]) == (None, None, None, False)


async def test_without_a_compiler_the_error_says_what_to_do(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)}
    assert binary(environ).parent == tmp_path / "syncline"
    with pytest.raises(GroundError, match="no C compiler") as caught:
        await compiled(environ)
    assert "CC" in caught.value.hint


async def test_the_rig_carries_an_echo_and_ends() -> None:
    """Hub and agent as processes, one stream between them, both directions."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    (port,) = ports.choose(1, rng=random.Random())
    command_line = ["-m", "bench.tunnel_rig", "--listen", f"127.0.0.1:{port}", "--target", f"127.0.0.1:{target}"]
    pair = await start_pair(command_line, tls=True)
    try:
        reader, writer = await asyncio.open_connection(*address(f"127.0.0.1:{port}"))
        sent = bytes(range(256)) * 1000
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 20) == sent
        writer.close()
        await writer.wait_closed()
    finally:
        await end(*pair)
        server.close()
    assert all(process.returncode is not None for process in pair)
