"""`args` and `command` of containers."""

from __future__ import annotations

from typing import Literal

from syncer.api.transforms import WordsTransform
from syncer.transform.draft import Draft
from syncer.transform.operations.base import Context, Operation, writable_pod_spec
from syncer.transform.podspec import containers, name_matcher
from syncer.transform.target import compile_value, expand


def compile_words(field: Literal["args", "command"], model: WordsTransform) -> Operation:
    """A `set` that is not empty replaces the list, then `remove` takes equal words out, then `append` adds."""
    matches = name_matcher(list(model.containers))
    start, appended, removed = (
        compile_value(list(model.set)),
        compile_value(list(model.append)),
        frozenset(model.remove),
    )

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is None:
            return
        for container in containers(draft, spec, matches):
            words = expand(start, context.target) or container.get(field) or []
            words = [word for word in words if word not in removed] + expand(appended, context.target)
            if words:
                container[field] = words
            else:
                container.pop(field, None)

    return apply
