"""`ingressHost`: rename hosts of an Ingress."""

from __future__ import annotations

from syncer.api.keys import GroupKind
from syncer.api.transforms import IngressHostTransform
from syncer.transform.draft import Draft
from syncer.transform.operations.base import Context, Operation, compile_texts, expand_texts

_INGRESS = GroupKind("networking.k8s.io", "Ingress")


def compile_ingress_host(model: IngressHostTransform) -> Operation:
    """In rules and TLS entries; hosts that the map does not name stay."""
    values = compile_texts(model.map, "map")

    def apply(draft: Draft, context: Context) -> None:
        spec = draft.mapping("spec") if context.kind == _INGRESS else None
        if spec is None:
            return
        hosts = expand_texts(values, context.target, "map")
        for key in ("rules", "tls"):
            entries = draft.items(spec, key) or []
            for index in range(len(entries)):
                entry = draft.child(entries, index)
                if type(entry) is not dict:
                    continue
                if entry.get("host") in hosts:
                    entry["host"] = hosts[entry["host"]]
                if type(entry.get("hosts")) is list:
                    entry["hosts"] = [hosts.get(host, host) for host in entry["hosts"]]

    return apply
