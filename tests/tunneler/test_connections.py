"""Which session serves a target, and who has to go."""

from __future__ import annotations

from tunneler.connections import ConnectionTable, Health, LinkState


def test_the_newest_session_of_an_instance_wins() -> None:
    table = ConnectionTable()
    assert table.add("east", "s1", "a", 0.0).replaced == ()
    assert table.add("east", "s2", "a", 1.0).replaced == ("s1",)
    assert [entry.session for entry in table.sessions("east")] == ["s2"]


def test_only_the_latest_of_the_replaced_may_finish_what_they_have() -> None:
    """S63: an agent that comes again and again and never leaves holds no more than that."""
    table = ConnectionTable()
    ended = [table.add("east", f"s{i}", "a", float(i)).ended for i in range(8)]
    assert ended == [()] * 5 + [("s0",), ("s1",), ("s2",)]
    table.remove("east", "s4")  # it is over, and counts no more
    assert table.add("east", "s8", "a", 8.0).ended == ()
    assert table.add("west", "s9", "a", 9.0).ended == ()
    assert table.forget("east") == ("s8", "s3", "s5", "s6", "s7")


def test_two_instances_serve_side_by_side_and_a_third_pushes_the_oldest_out() -> None:
    table = ConnectionTable()
    table.add("east", "s1", "a", 0.0)
    assert table.add("east", "s2", "b", 1.0).replaced == ()
    admission = table.add("east", "s3", "c", 2.0)
    assert (admission.accepted, admission.replaced, admission.duplicate) == (True, ("s1",), False)


def test_instances_that_keep_pushing_each_other_out_are_told_and_refused_for_a_minute() -> None:
    table = ConnectionTable()
    told = [table.add("east", f"s{i}", "abc"[i % 3], float(i)) for i in range(8)]
    assert [a.duplicate for a in told] == [False] * 7 + [True]
    refused = table.add("east", "s9", "z", 9.0)
    assert (refused.accepted, refused.duplicate) == (False, True)
    assert table.add("east", "s10", "b", 10.0).accepted  # who is in may come again
    assert table.add("east", "s11", "z", 68.0).accepted
    assert table.add("west", "s12", "z", 9.0).accepted  # other targets never notice


def test_the_healthiest_session_is_chosen() -> None:
    table = ConnectionTable()
    table.add("east", "old", "a", 0.0)
    table.add("east", "new", "b", 1.0)
    fine = Health(True, rtt_seconds=0.01)
    assert table.choose("east", {"old": fine, "new": fine}) == "new"
    assert table.choose("east", {"old": fine, "new": Health(True, silent_seconds=9)}) == "old"
    assert table.choose("east", {"old": fine, "new": Health(True, rtt_seconds=0.2)}) == "old"
    assert table.choose("east", {"old": fine, "new": Health(True, rtt_seconds=0.01, streams=3)}) == "old"
    assert table.choose("east", {"old": fine, "new": Health(False, draining=True)}) == "old"
    assert table.choose("east", {"old": Health(False), "new": Health(False)}) is None
    assert table.choose("nowhere", {}) is None


def test_all_links_are_told_in_one_word() -> None:
    table = ConnectionTable()
    assert table.state("east", {}) is LinkState.CONNECTING
    table.add("east", "s1", "a", 0.0)
    assert table.state("east", {"s1": Health(True)}) is LinkState.CONNECTED
    assert table.state("east", {"s1": Health(True, silent_seconds=8)}) is LinkState.DEGRADED
    assert table.state("east", {"s1": Health(False, draining=True)}) is LinkState.DRAINING
    table.remove("east", "s1")
    table.remove("east", "s1")
    assert table.state("east", {}) is LinkState.RECONNECTING
    table.add("east", "s2", "a", 1.0)
    assert table.forget("east") == ("s2",)
    assert table.forget("east") == ()
