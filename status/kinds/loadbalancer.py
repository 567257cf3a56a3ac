"""Service and Ingress: the union of the targets' load-balancer entries."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View
from status.report import Health
from status.sanitize import MAX_LIST_ITEMS
from status.values import mapping, objects, text

_HOSTNAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PENDING: Final = Verdict(Health.PROGRESSING, "NoAddress", "the load balancer has no address yet")


def _address(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """("ip", canonical address) or ("hostname", name) of an entry, None when an API server would refuse both."""
    for field in ("ip", "hostname"):
        value = text(entry, field)
        try:
            ip = ipaddress.ip_address(value)
        except ValueError:
            if field == "hostname" and _HOSTNAME.fullmatch(value):
                return field, value
        else:
            if "%" not in value and getattr(ip, "ipv4_mapped", None) is None:
                return "ip", str(ip)
    return None


def _sort_key(address: tuple[str, str]) -> tuple[str, int, bytes]:
    kind, value = address
    if kind == "hostname":
        return kind, 0, value.encode()
    ip = ipaddress.ip_address(value)
    return "", ip.version, ip.packed


def _addresses(status: Mapping[str, Any]) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    entries = objects(mapping(status, "loadBalancer"), "ingress")
    return [(address, entry) for entry in entries if (address := _address(entry)) is not None]


def _union(view: View, *, ip_mode: bool) -> list[dict[str, Any]]:
    """Entries by address, addresses first, then names; of one told by two targets, the first target's."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for report in view.reports:
        for address, entry in _addresses(report.status):
            if address not in found:
                found[address] = {address[0]: address[1]}
                if address[0] == "ip" and ip_mode:
                    found[address]["ipMode"] = "Proxy" if text(entry, "ipMode") == "Proxy" else "VIP"
    return [found[address] for address in sorted(found, key=_sort_key)][:MAX_LIST_ITEMS]


class ServiceRules(KindRules):
    fields = frozenset({"loadBalancer"})
    generational = False

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if text(mapping(manifest, "spec"), "type") == "LoadBalancer" and not _addresses(status):
            return _PENDING
        return HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        balanced = text(view.spec, "type") == "LoadBalancer"
        return {"loadBalancer": {"ingress": _union(view, ip_mode=True)} if balanced else {}}


class IngressRules(KindRules):
    fields = frozenset({"loadBalancer"})
    generational = False

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if not observed:
            return NOT_OBSERVED
        return HEALTHY if _addresses(status) else _PENDING

    def merge(self, view: View) -> dict[str, Any] | None:
        return {"loadBalancer": {"ingress": _union(view, ip_mode=False)}}
