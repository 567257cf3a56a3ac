"""`labels` and `annotations` of the object itself."""

from __future__ import annotations

import re
from typing import Literal

from syncer.api.common import LABEL_VALUE_PATTERN
from syncer.api.transforms import MetadataTransform
from syncer.kube.pointers import join_pointer
from syncer.transform.draft import Draft
from syncer.transform.errors import OperationError
from syncer.transform.operations.base import Context, Operation, compile_texts, expand_texts

_LABEL_VALUE = re.compile(LABEL_VALUE_PATTERN)
_LABEL_VALUE_LENGTH = 63


def compile_metadata(field: Literal["labels", "annotations"], model: MetadataTransform) -> Operation:
    """Remove, then set. Label values are checked after expansion, since only then they are complete."""
    values = compile_texts(model.set)

    def apply(draft: Draft, context: Context) -> None:
        wanted = expand_texts(values, context.target)
        if field == "labels":
            for key, value in wanted.items():
                check_label_value(key, value)
        members = draft.ensure("metadata", field)
        for key in model.remove:
            members.pop(key, None)
        members.update(wanted)
        if not members:
            del draft.ensure("metadata")[field]

    return apply


def check_label_value(key: str, value: str) -> None:
    """Raises OperationError if the API server would refuse the value as a label's."""
    if len(value) > _LABEL_VALUE_LENGTH or not _LABEL_VALUE.match(value):
        raise OperationError(f"{value!r} is not a label value", at=join_pointer(("set", key)))
