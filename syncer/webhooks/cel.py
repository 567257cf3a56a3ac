"""The models' CEL rules, evaluated here as the API server evaluates them from the CRD."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from syncer.api.common import ApiModel, field_path, not_yet_supported, walk
from syncer.api.names import Reason
from syncer.webhooks.findings import Finding


@cache
def _compiled(expression: str) -> Any:
    """Imported on first use: the library costs 8 MiB."""
    from cel_expr_python import cel  # type: ignore[import-untyped]

    return cel.NewEnv(variables={"self": cel.Type.DYN}).compile(expression)


def broken_rules(model: ApiModel) -> Iterator[Finding]:
    """Every rule that the model or a part of it breaks."""
    for path, part in walk(model):
        rules = type(part).rules
        data = {"self": part.to_wire()} if rules else {}
        for rule in rules:
            if _compiled(rule.expression).eval(data=data).value() is not True:
                yield Finding(field_path(path) + rule.path, rule.message)


def later_findings(model: ApiModel) -> Iterator[Finding]:
    """Every use of what comes in a later version."""
    for later in not_yet_supported(model):
        yield Finding(later, f"NotYetSupported: {later}", reason=Reason.NOT_YET_SUPPORTED)
