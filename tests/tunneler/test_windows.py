"""Credit is conserved: never more on the way than granted, never more granted than the window and the budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunneler.config import FIRST_WINDOW_BYTES
from tunneler.windows import LinkBudget, ReceiveWindow, SendWindow


def test_a_grant_only_raises_and_repeating_it_changes_nothing() -> None:
    window = SendWindow(10)
    assert window.raise_to(20)
    assert not window.raise_to(20)
    assert not window.raise_to(5)
    assert window.limit == 20


@given(st.lists(st.tuples(st.sampled_from(["send", "read", "grant"]), st.integers(0, 9000)), max_size=200))
def test_bytes_waiting_for_a_reader_never_exceed_the_window(steps: list[tuple[str, int]]) -> None:
    """``consumed <= received <= granted <= consumed + size``, and the sender's limit is what was granted."""
    budget = LinkBudget(64 * FIRST_WINDOW_BYTES)
    incoming = ReceiveWindow(budget.admit(FIRST_WINDOW_BYTES), budget)
    outgoing = SendWindow(incoming.granted)
    now = 0.0
    for what, size in steps:
        now += 0.001
        if what == "send":
            size = min(size, outgoing.available)
            outgoing.sent += size
            incoming.received += size
        elif what == "read":
            incoming.consumed += min(size, incoming.received - incoming.consumed)
        else:
            outgoing.raise_to(incoming.grant(now=now, rtt_seconds=0.005, max_size=8 * FIRST_WINDOW_BYTES))
        assert incoming.consumed <= incoming.received <= incoming.granted <= incoming.consumed + incoming.size
        assert outgoing.limit == incoming.granted
        assert outgoing.sent == incoming.received
        assert budget.granted <= budget.total
    incoming.release()
    incoming.release()
    assert (budget.granted, budget.grown) == (0, 0)


def test_a_window_grows_while_it_holds_its_sender_back_and_stays_for_a_slow_reader() -> None:
    budget = LinkBudget(1 << 30)
    for seconds, grows in ((0.001, True), (0.5, False)):
        window = ReceiveWindow(1000, budget)
        now = 0.0
        for _ in range(20):
            now += seconds
            window.received += 250
            window.consumed += 250
            due = window.size == 1000 or window.granted - window.consumed <= window.size * 0.75
            assert (window.consumed >= window.due_at) == due
            window.grant(now=now, rtt_seconds=0.02, max_size=4000)
        assert (window.size == 4000) is grows


@given(st.integers(1, 1024))
def test_new_streams_get_smaller_windows_as_the_budget_runs_out(count: int) -> None:
    budget = LinkBudget(32 << 20)
    sizes = [budget.admit(256 << 10) for _ in range(count)]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= FIRST_WINDOW_BYTES
    assert sum(sizes) <= budget.total + count * FIRST_WINDOW_BYTES
    assert not budget.grow((16 << 20) + 1)
