"""Every metric of the operator, in one list.

Base units, bounded labels, and each series is there at zero from the start (per target: from the moment it is known).
One `Metrics` object is built at start and handed down; nothing registers in prometheus_client's global registry.
"""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from syncer.api.names import Reason

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
Side = Literal["upstream", "downstream"]
SIDES: Final[tuple[Side, ...]] = ("upstream", "downstream")
VERBS: Final = ("get", "list", "watch", "create", "apply", "update", "patch", "delete", "discovery", "review", "other")
WRITE_VERBS: Final = frozenset({"create", "apply", "update", "patch", "delete"})
# What API servers answer in practice; anything else counts as "other", no answer at all as "error".
CODES: Final = frozenset({"200", "201", "202", "304", "400", "401", "403", "404", "409", "410"}) | frozenset(
    {"413", "415", "422", "429", "500", "502", "503", "504", "error"}
)
# requested, refused (token or certificate request) and renewed count where it was asked, the others at the leader
REGISTRATION_OUTCOMES: Final = ("requested", "refused", "approved", "denied", "expired", "renewed")
OTHER: Final = "other"
_METHODS: Final = {"post": "create", "put": "update"}  # requests that say no verb count as what their method does
_REASONS: Final = frozenset(reason.value for reason in Reason)
_LATENCY_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, with the time of its making


class Metrics:
    """The metrics of one process. Attributes are prometheus_client metrics; hot paths may keep bound children."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        self.sync_latency_seconds = Histogram(
            "syncline_sync_latency_seconds",
            "From seeing a source write to its successful apply on a target.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.status_latency_seconds = Histogram(
            "syncline_status_latency_seconds",
            "From seeing a status change on a target to its merged status written upstream.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.synced_objects = Gauge(
            "syncline_synced_objects", "Objects in sync on a target.", ["target"], registry=registry
        )
        self.sync_errors_total = Counter(
            "syncline_sync_errors_total", "Failed passes by reason.", ["target", "reason"], registry=registry
        )
        self.drift_total = Counter(
            "syncline_drift_total", "Foreign changes found on synced objects.", ["target"], registry=registry
        )
        self.target_ready = Gauge("syncline_target_ready", "1 while a target is Ready.", ["target"], registry=registry)
        self.api_writes_total = Counter(
            "syncline_api_writes_total", "Writes sent to API servers.", ["side", "verb"], registry=registry
        )
        self.api_requests_total = Counter(
            "syncline_api_requests_total", "Requests to API servers.", ["side", "verb", "code"], registry=registry
        )
        self.queue_depth = Gauge("syncline_queue_depth", "Keys that wait or are in hand.", registry=registry)
        self.leader = Gauge("syncline_leader", "1 while this process leads.", registry=registry)
        self.loop_lag_seconds = Gauge(
            "syncline_loop_lag_seconds", "Longest stall of the event loop in the last 10 s.", registry=registry
        )
        self.events_dropped_total = Counter(
            "syncline_events_dropped_total", "Kubernetes Events not posted (rate or queue limit).", registry=registry
        )
        self.tunnel_links = Gauge("syncline_tunnel_links", "Open tunnel links.", registry=registry)
        self.tunnel_streams_open = Gauge("syncline_tunnel_streams_open", "Open tunnel streams.", registry=registry)
        self.tunnel_bytes_total = Counter(
            "syncline_tunnel_bytes_total", "Bytes through tunnels.", ["direction"], registry=registry
        )
        self.tunnel_reconnects_total = Counter(
            "syncline_tunnel_reconnects_total", "Tunnel links that were made again.", registry=registry
        )
        self.registrations_total = Counter(
            "syncline_registrations_total",
            "What became of clusters that asked to join.",
            ["outcome"],
            registry=registry,
        )
        for outcome in REGISTRATION_OUTCOMES:
            self.registrations_total.labels(outcome)
        self.tunnel_forwarded_total = Counter(
            "syncline_tunnel_forwarded_total",
            "Tunnel streams that another replica carries for this one (out), or this one for another (in).",
            ["direction"],
            registry=registry,
        )
        self.replicas = Gauge(
            "syncline_replicas", "Replicas that this one knows of, itself included.", registry=registry
        )
        self.replicas.set(1)
        self._requests: dict[tuple[str, str, int], list[Counter]] = {}  # (side, verb, code)
        for direction in ("in", "out"):
            self.tunnel_bytes_total.labels(direction)
            self.tunnel_forwarded_total.labels(direction)
        for side in SIDES:
            for verb in VERBS:
                self.api_requests_total.labels(side, verb, "200")
                if verb in WRITE_VERBS:
                    self.api_writes_total.labels(side, verb)

    def observe_request(self, side: str, verb: str, code: int, seconds: float) -> None:
        """Count one finished request.

        Args:
            side: `upstream` or `downstream`.
            verb: one of `VERBS`, or an HTTP method; anything else counts as `other`.
            code: HTTP status, 0 when there was no answer.
            seconds: unused here; the shape is that of the client's `observe` callback.
        """
        counters = self._requests.get((side, verb, code))
        if counters is None:
            counters = self._requests[side, verb, code] = self._counters(side, verb, code)
        for counter in counters:
            counter.inc()

    def _counters(self, side: str, verb: str, code: int) -> list[Counter]:
        """What one request counts in; looking that up for each takes longer than counting."""
        verb = _METHODS.get(verb, verb if verb in VERBS else OTHER)
        text = "error" if code == 0 else str(code)
        counters = [self.api_requests_total.labels(side, verb, text if text in CODES else OTHER)]
        if verb in WRITE_VERBS:
            counters.append(self.api_writes_total.labels(side, verb))
        return counters

    def sync_error(self, target: str, reason: str) -> None:
        """Count one failed pass; a reason that is not one of ours counts as `other`."""
        self.sync_errors_total.labels(target, reason if reason in _REASONS else OTHER).inc()

    def add_target(self, target: str) -> None:
        """Make the target's series, at zero."""
        for gauge in (self.synced_objects, self.target_ready):
            gauge.labels(target)
        self.drift_total.labels(target)
        for reason in (*_REASONS, OTHER):
            self.sync_errors_total.labels(target, reason)

    def remove_target(self, target: str) -> None:
        """Drop the target's series, so that names of deleted targets do not pile up (L10)."""
        for metric in (self.synced_objects, self.target_ready, self.drift_total, self.sync_errors_total):
            metric.remove_by_labels({"target": target})

    def exposition(self) -> bytes:
        """Prometheus text format. Takes tens of milliseconds with many series: call it in a thread."""
        return generate_latest(self.registry)
