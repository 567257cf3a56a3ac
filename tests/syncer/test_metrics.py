"""Metrics: names of the contract, bounded labels, zero from the start."""

from __future__ import annotations

import pytest

from syncer.metrics import Metrics

CONTRACT = {
    "syncline_sync_latency_seconds_count": [""],
    "syncline_status_latency_seconds_count": [""],
    "syncline_queue_depth": [""],
    "syncline_leader": [""],
    "syncline_tunnel_links": [""],
    "syncline_tunnel_streams_open": [""],
    "syncline_tunnel_reconnects_total": [""],
    "syncline_registrations_total": ['{outcome="requested"}', '{outcome="refused"}', '{outcome="renewed"}'],
    "syncline_tunnel_bytes_total": ['{direction="in"}', '{direction="out"}'],
    "syncline_api_writes_total": ['{side="upstream",verb="apply"}', '{side="downstream",verb="delete"}'],
    "syncline_api_requests_total": ['{code="200",side="upstream",verb="list"}'],
    "syncline_synced_objects": ['{target="east"}'],
    "syncline_drift_total": ['{target="east"}'],
    "syncline_target_ready": ['{target="east"}'],
    "syncline_sync_errors_total": ['{reason="TransformFailed",target="east"}', '{reason="other",target="east"}'],
}


def value(metrics: Metrics, series: str) -> float | None:
    for line in metrics.exposition().decode().splitlines():
        if line.rpartition(" ")[0] == series:
            return float(line.rpartition(" ")[2])
    return None


@pytest.mark.parametrize("name", CONTRACT)
def test_every_series_is_there_at_zero_from_the_start(name: str) -> None:
    metrics = Metrics()
    metrics.add_target("east")
    for labels in CONTRACT[name]:
        assert value(metrics, name + labels) == 0


def test_two_objects_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.leader.set(1)
    assert value(second, "syncline_leader") == 0


def test_requests_and_writes_are_counted_by_side_and_verb() -> None:
    metrics = Metrics()
    metrics.observe_request("downstream", "apply", 201, 0.01)
    metrics.observe_request("downstream", "get", 404, 0.01)
    metrics.observe_request("downstream", "get", 0, 0.01)
    assert value(metrics, 'syncline_api_writes_total{side="downstream",verb="apply"}') == 1
    assert value(metrics, 'syncline_api_requests_total{code="201",side="downstream",verb="apply"}') == 1
    assert value(metrics, 'syncline_api_requests_total{code="404",side="downstream",verb="get"}') == 1
    assert value(metrics, 'syncline_api_requests_total{code="error",side="downstream",verb="get"}') == 1


def test_labels_from_outside_are_bounded() -> None:
    metrics = Metrics()
    for number in range(200, 1000):
        metrics.observe_request("downstream", f"verb{number}", number, 0.01)
        metrics.sync_error("east", f"reason {number}")
    text = metrics.exposition().decode()
    assert text.count("syncline_api_requests_total{") < 60
    assert value(metrics, 'syncline_sync_errors_total{reason="other",target="east"}') == 800


def test_series_of_a_removed_target_go_away() -> None:
    """L10: per-name tables do not grow for ever."""
    metrics = Metrics()
    before = metrics.exposition().count(b"\n")
    for number in range(50):
        metrics.add_target(f"t{number}")
        metrics.sync_error(f"t{number}", "Invalid")
        metrics.remove_target(f"t{number}")
    metrics.remove_target("never-added")
    assert metrics.exposition().count(b"\n") == before
