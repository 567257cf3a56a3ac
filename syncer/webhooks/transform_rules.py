"""Rules about transforms: each one compiles as the pipeline compiles it, and none fights a divided placement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from syncer.api.common import field_path
from syncer.api.names import Reason
from syncer.api.placement import PlacementSpec
from syncer.api.transforms import Transform
from syncer.transform import compile_transforms
from syncer.transform.errors import TransformFailed
from syncer.webhooks.findings import Finding

_REPLICAS = "/spec/replicas"


def transform_findings(spec: PlacementSpec) -> Iterator[Finding]:
    """Everything wrong with `spec.transforms`."""
    for index, transform in enumerate(spec.transforms):
        try:
            compile_transforms([transform])
        except TransformFailed as error:
            told = str(error.__cause__ or error).replace("transforms[0]", f"transforms[{index}]")
            yield Finding(_path(error.pointer, index), told, reason=Reason.TRANSFORM_FAILED)
            continue
        if spec.replicas.mode == "Divide":
            for operation, pointer in _written(transform):
                if pointer == _REPLICAS or _REPLICAS.startswith(f"{pointer}/") or pointer.startswith(f"{_REPLICAS}/"):
                    text = f"{_REPLICAS} is divided over the targets (replicas.mode Divide) and cannot be written here"
                    yield Finding(f"spec.transforms[{index}].{operation}", text)


def _path(pointer: str | None, index: int) -> str:
    """The pipeline's pointer, made for a list of this one transform, as a path into the whole placement."""
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in (pointer or "").split("/")[4:]]
    rest = (int(token) if token.isascii() and token.isdigit() else token for token in tokens)
    return field_path(("spec", "transforms", index, *rest))


def _written(transform: Transform) -> Iterator[tuple[str, str]]:
    """Each (operation, JSON pointer) that a transform of free form writes."""
    for pointer in transform.remove or ():
        yield "remove", pointer
    for operation in transform.json_patch or ():
        if operation.op != "test":
            yield "jsonPatch", operation.path
    if transform.cel is not None:
        yield "cel", transform.cel.path
    patch: Any = transform.merge_patch
    patch = yaml.safe_load(patch) if isinstance(patch, str) else patch
    if isinstance(patch, dict) and "spec" in patch:
        spec = patch["spec"]
        if not isinstance(spec, dict) or "replicas" in spec:
            yield "mergePatch", _REPLICAS
