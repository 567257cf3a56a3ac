"""Which replicas there are: what counts of their records, and until when."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from syncer.hub.members import (
    MAX_RECORDED,
    MAX_TOLD,
    MEMBER_SECONDS,
    Changed,
    Link,
    Members,
    Record,
    decode,
    encode,
    lease_name,
)
from syncer.kube.objects import decode_object

SINCE = 1_777_896_000  # 2026-05-04T12:00:00Z
ONE = Link(1, 1, SINCE)
TWO = Link(2, 2, SINCE)


def record(replica: str = "r2", *, epoch: int = 0, **links: Link) -> Record:
    return Record(replica, f"https://{replica}.example", epoch, links)


def lease(what: Record, **changes: Any) -> Any:
    """As an API server would give it."""
    manifest = json.loads(encode(what, renewed="2026-05-04T12:00:00.000000Z", version=""))
    manifest["metadata"] |= {"uid": "u", "resourceVersion": "7"} | changes
    return decode_object(msgspec.json.encode(manifest))


def test_a_record_travels_in_a_lease() -> None:
    what = record(epoch=3, east=ONE, west=TWO)
    assert decode(lease(what)) == (what, "2026-05-04T12:00:00.000000Z")
    assert json.loads(encode(what, renewed="x", version="9"))["metadata"]["resourceVersion"] == "9"


@pytest.mark.parametrize(
    "changes", [{"name": "syncline-operator"}, {"annotations": {}}, {"annotations": {"syncline.io/tunnels": "[1]"}}]
)
def test_what_is_no_record_of_its_replica_is_nobody(changes: dict[str, Any]) -> None:
    """A Lease cannot speak for another replica than the one in its name."""
    assert decode(lease(record(), **changes)) is None


def test_ids_of_any_host_make_a_name_that_objects_may_have() -> None:
    assert lease_name("Node_1.example_4711_3f2a9c1e").removeprefix("syncline-replica-").isalnum()
    assert lease_name("a") != lease_name("b")


def test_the_largest_record_fits_into_an_annotation() -> None:
    links = {f"{number:040}": Link(2, 99_999, SINCE) for number in range(MAX_RECORDED)}
    full = Record("r2", "https://r2.example", 10**9, links)
    annotations = json.loads(encode(full, renewed="", version=""))["metadata"]["annotations"]
    assert sum(len(name) + len(text) for name, text in annotations.items()) < 256 * 1024


def test_an_older_epoch_never_replaces_a_newer_one() -> None:
    """P10: a late view, or a write that was on its way for long, changes nothing."""
    members = Members("r1")
    members.observe(record(epoch=5, east=ONE), "t5", 0.0)
    assert not members.observe(record(epoch=4, east=ONE, west=ONE), "t4", 1.0)
    assert [held.epoch for held in members.holders("east")] == [5]
    assert members.holders("west") == []
    assert members.expire(MEMBER_SECONDS) == ["r2"]  # it did not count as a sign of life either
    assert members.observe(record(epoch=6, west=ONE), "t6", 2.0) == Changed(targets=frozenset({"east", "west"}))
    assert members.holders("east") == []


def test_a_record_that_stands_still_is_no_member() -> None:
    members = Members("r1")
    assert members.observe(record(), "t1", 0.0) == Changed(members=True)
    assert not members.observe(record(), "t1", 5.0)  # a list shows it again
    assert not members.observe(record(), "t2", 6.0)  # a renewal changes nothing but its time
    assert members.expire(6.0 + MEMBER_SECONDS - 0.1) == []
    assert members.expire(6.0 + MEMBER_SECONDS) == ["r2"]
    members.forgive(20.0)
    assert members.expire(20.0) == []


def test_a_clock_that_was_set_back_is_a_sign_of_life_too() -> None:
    members = Members("r1")
    members.observe(record(), "2026-05-04T13", 0.0)
    members.observe(record(), "2026-05-04T12", 5.0)
    assert members.expire(MEMBER_SECONDS) == []


def test_nobody_is_sent_to_the_one_that_looks_or_to_its_former_self() -> None:
    members = Members("r1", "https://r1.example")
    assert not members.observe(record("r1", east=ONE), "t", 0.0)
    members.observe(Record("r0", "https://r1.example", 0, {"east": ONE}), "t", 0.0)
    members.observe(record(east=ONE), "t", 0.0)
    assert members.addresses("east") == ["https://r2.example"]
    assert [held.replica for held in members.holders("east")] == ["r2"]


def test_who_goes_takes_its_links_with_it() -> None:
    members = Members("r1")
    members.observe(record(east=ONE), "t", 0.0)
    assert members.remove("r2") == Changed(True, frozenset({"east"}), "r2")
    assert not members.remove("r2")
    assert len(members) == 0


def test_addresses_are_few_and_in_each_targets_own_order() -> None:
    members = Members("r1")
    for number in range(10):
        members.observe(record(f"r{number + 2}"), "t", 0.0)
    orders = {tuple(members.addresses(f"target-{number}")) for number in range(5)}
    assert all(len(order) == MAX_TOLD for order in orders)
    assert len(orders) == 5


def test_agents_are_told_their_own_addresses_of_replicas() -> None:
    """A balancer's is one for all of them, so it is told as long as there is another replica at all."""
    members = Members("r1", "https://r1.example")
    assert members.addresses("east") == []
    for number in (2, 3):
        url = f"https://r{number}.example"
        members.observe(Record(f"r{number}", url, agents="https://hub.example"), "t", 0.0)
    assert members.addresses("east") == ["https://hub.example"]
    assert members.url_of("r2") == "https://r2.example"
    assert members.url_of("r9") == ""
    moved = members.observe(Record("r2", "https://r2.example", agents="https://other.example"), "u", 1.0)
    assert moved.members
    assert set(members.addresses("east")) == {"https://hub.example", "https://other.example"}
