"""Random stream histories against a model that knows only what bytes were written and what was closed.

``SYNCLINE_TEST_HISTORIES=10000`` runs as many; the default keeps the suite quick.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.tunneler.support import End, Pair
from tunneler.config import KIB, TunnelConfig
from tunneler.core import SessionState
from tunneler.errors import StreamCode
from tunneler.streams import Stream, StreamState

HISTORIES = int(os.environ.get("SYNCLINE_TEST_HISTORIES", "300"))
BLOCK = 100


class Model:
    """What each direction of each stream must come to: {(end, stream id): …}."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, int], bytes] = {}
        self.ended: set[tuple[str, int]] = set()
        self.reset: dict[int, set[StreamCode]] = {}
        self.refused: set[int] = set()

    def check(self, pair: Pair) -> None:
        for name, sender, receiver in (("hub", pair.hub, pair.agent), ("agent", pair.agent, pair.hub)):
            for id_ in sender.streams:
                written = self.written.get((name, id_), b"")
                got = receiver.received.get(id_, b"")
                assert written.startswith(got), "bytes arrive in order and unchanged, or not at all"
                if id_ in self.reset or id_ in self.refused:
                    continue
                assert got == written
                assert (id_ in receiver.eof) == ((name, id_) in self.ended)
        for id_, codes in self.reset.items():
            for end in (pair.hub, pair.agent):
                error = end.ended[id_]
                assert error is None or error.code in codes
        for id_ in self.refused - set(self.reset):
            assert pair.hub.ended[id_] is not None
        open_ids = {
            id_
            for id_ in pair.hub.streams
            if id_ not in self.reset and id_ not in self.refused and not {("hub", id_), ("agent", id_)} <= self.ended
        }
        assert set(pair.hub.protocol.streams) == set(pair.agent.protocol.streams) == open_ids
        assert pair.hub.protocol.state is pair.agent.protocol.state is SessionState.OPEN


def step(chance: random.Random, pair: Pair, model: Model) -> None:
    what = chance.choice(["open", "answer", "write", "write", "write", "eof", "reset", "move", "move", "pause", "read"])
    name, end = chance.choice([("hub", pair.hub), ("agent", pair.agent)])
    if what == "open":
        if len(pair.hub.protocol.streams) < 6:
            stream = pair.hub.protocol.open_stream("echo", {})
            pair.hub.streams[stream.id] = stream
    elif what == "move":
        for _ in range(chance.randrange(1, 5)):
            pair.move()
    elif what == "pause":
        end.reads = False
    elif what == "read":
        read_all(end)
    else:
        live = [s for s in end.streams.values() if s.state is not StreamState.CLOSED]
        if live:
            act(chance, what, name, end, chance.choice(live), model)


def read_all(end: End) -> None:
    end.reads = True
    for stream in end.streams.values():
        end.protocol.consume(stream, stream.incoming.received - stream.incoming.consumed)


def act(chance: random.Random, what: str, name: str, end: End, stream: Stream, model: Model) -> None:
    waiting = stream.state in (StreamState.ACCEPTING, StreamState.ACCEPTING_REMOTE_ENDED)
    if what == "answer" and waiting:
        if chance.random() < 0.8:
            end.protocol.accept_stream(stream)
        else:
            end.protocol.refuse_stream(stream, StreamCode.DENIED, "no")
            model.refused.add(stream.id)
    elif what == "write" and stream.sends and not stream.ending:
        data = chance.randbytes(chance.choice([1, 100, 5000, 40 * KIB, 300 * KIB]))
        end.protocol.send_data(stream, data)
        model.written[name, stream.id] = model.written.get((name, stream.id), b"") + data
    elif what == "eof" and stream.sends and not stream.ending:
        end.protocol.send_eof(stream)
        model.ended.add((name, stream.id))
    elif what == "reset" and chance.random() < 0.3:
        code = chance.choice([StreamCode.CANCELLED, StreamCode.INTERNAL])
        end.protocol.reset_stream(stream, code)
        model.reset.setdefault(stream.id, {StreamCode.DENIED}).add(code)


def finish(pair: Pair) -> None:
    """Answer what is not answered and read what waits, until nothing moves."""
    for _ in range(200):
        for stream in list(pair.agent.protocol.streams.values()):
            if stream.state in (StreamState.ACCEPTING, StreamState.ACCEPTING_REMOTE_ENDED):
                pair.agent.protocol.accept_stream(stream)
        read_all(pair.hub)
        read_all(pair.agent)
        if not pair.move():
            return
    pair.settle()


@pytest.mark.parametrize("block", range(max(1, HISTORIES // BLOCK)))
def test_histories_end_as_the_model_says(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        chance = random.Random(seed)
        pair, model = Pair(TunnelConfig(window_bytes=64 * KIB, budget_bytes=2048 * KIB)), Model()
        for _ in range(chance.randrange(5, 60)):
            step(chance, pair, model)
        finish(pair)
        try:
            model.check(pair)
            for end in (pair.hub, pair.agent):
                for stream in end.protocol.streams.values():
                    stream.incoming.release()
                assert (end.protocol.budget.granted, end.protocol.budget.grown) == (0, 0)
        except AssertionError as error:
            raise AssertionError(f"history of seed {seed}: {error}") from error
