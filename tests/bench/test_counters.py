"""What is read out of API servers' metrics, and what of it counts as Syncline's."""

from __future__ import annotations

from collections import Counter

from bench.counters import Write, parse_writes, written_by_syncline


def sample(verb: str, resource: str, count: int, code: int = 200, subresource: str = "", dry_run: str = "") -> str:
    return (
        f'apiserver_request_total{{code="{code}",component="apiserver",dry_run="{dry_run}",group="",'
        f'resource="{resource}",scope="resource",subresource="{subresource}",verb="{verb}",version="v1"}} {count}\n'
    )


def test_writes_are_added_up_over_what_is_not_told_apart() -> None:
    """200 and 201 are both successes; reads, dry runs and other metrics are no writes."""
    text = (
        "# HELP apiserver_request_total Counter\n"
        + sample("APPLY", "configmaps", 3)
        + sample("APPLY", "configmaps", 4, code=201)
        + sample("APPLY", "configmaps", 1, code=409)
        + sample("APPLY", "configmaps", 9, dry_run="All")
        + sample("GET", "configmaps", 9)
        + 'apiserver_current_inflight_requests{request_kind="mutating"} 1\n'
    )
    assert parse_writes(text) == {
        Write("APPLY", "configmaps", "", True): 7,
        Write("APPLY", "configmaps", "", False): 1,
    }


def test_large_counts_in_exponential_form_are_understood() -> None:
    assert parse_writes(sample("POST", "pods", 0).replace("} 0", "} 1.5e+06")).total() == 1_500_000


def test_only_syncline_applies_downstream_and_patches_upstream() -> None:
    """Controllers' updates, our own POSTs upstream, heartbeats and elections are not counted; refused writes are."""
    before = {"upstream": Counter({Write("PATCH", "deployments", "status", True): 5}), "east": Counter[Write]()}
    after = {
        "upstream": Counter(
            {
                Write("PATCH", "deployments", "status", True): 7,
                Write("POST", "deployments", "", True): 2,
                Write("POST", "events", "", True): 1,
                Write("PATCH", "leases", "", True): 9,
                Write("PATCH", "synctargets", "status", True): 9,
            }
        ),
        "east": Counter(
            {
                Write("APPLY", "deployments", "", True): 2,
                Write("APPLY", "deployments", "", False): 1,
                Write("PUT", "deployments", "status", True): 4,
                Write("PATCH", "pods", "status", True): 4,
                Write("POST", "events", "", True): 4,
            }
        ),
    }
    assert written_by_syncline(before, after) == {
        "upstream: PATCH deployments/status": 2,
        "upstream: POST events": 1,
        "east: APPLY deployments": 2,
        "east: APPLY deployments (refused)": 1,
    }
