"""`resources`: container requests and limits, scaled and set."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from syncer.api.transforms import ResourcesTransform
from syncer.kube.pointers import join_pointer
from syncer.kube.quantities import QuantityError, exact_quantity, scale_quantity
from syncer.transform.draft import Draft
from syncer.transform.errors import OperationError
from syncer.transform.operations.base import Context, Operation, writable_pod_spec
from syncer.transform.podspec import containers, name_matcher

_LISTS = ("requests", "limits")


def compile_resources(model: ResourcesTransform) -> Operation:
    """Scale what is there, then set, so that a value that was written out stays as written."""
    matches = name_matcher(list(model.containers))
    factor = None if model.scale is None else Decimal(model.scale)
    amounts = {} if model.set is None else {"requests": model.set.requests, "limits": model.set.limits}
    for field, entries in amounts.items():
        for name, amount in entries.items():
            try:
                exact_quantity(amount)
            except QuantityError as error:
                raise OperationError(str(error), at=join_pointer(("set", field, name))) from error

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is None:
            return
        for container in containers(draft, spec, matches):
            resources = dict(container.get("resources") or {})
            for field in _LISTS:
                changed = dict(resources.get(field) or {})
                if factor is not None:
                    changed = {
                        name: _scaled(container, field, name, amount, factor) for name, amount in changed.items()
                    }
                changed.update(amounts.get(field) or {})
                if changed:
                    resources[field] = changed
            if resources:
                container["resources"] = resources

    return apply


def _scaled(container: dict[str, Any], field: str, name: str, amount: Any, factor: Decimal) -> str:
    try:
        return scale_quantity(amount, factor, resource=name)
    except QuantityError as error:
        where = f"container {container.get('name')}, resources.{field}.{name}"
        raise OperationError(f"{where}: {error}", at="/scale") from error
