"""The operations of `spec.transforms`, one file per family.

Each `compile_*` turns a model into a function that edits a draft. Reading order: `base`, any family, then this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from syncer.transform.operations.base import Operation
from syncer.transform.operations.cel import compile_cel
from syncer.transform.operations.env import compile_env
from syncer.transform.operations.image import compile_image
from syncer.transform.operations.ingress import compile_ingress_host
from syncer.transform.operations.metadata import compile_metadata
from syncer.transform.operations.patches import compile_json_patch, compile_merge_patch, compile_remove
from syncer.transform.operations.replicas import compile_replicas
from syncer.transform.operations.resources import compile_resources
from syncer.transform.operations.scheduling import (
    compile_image_pull_secrets,
    compile_node_selector,
    compile_tolerations,
)
from syncer.transform.operations.storage import compile_storage_class
from syncer.transform.operations.words import compile_words

# Field of the Transform model -> its compiler.
COMPILERS: Final[Mapping[str, Callable[[Any], Operation]]] = {
    "image": compile_image,
    "env": compile_env,
    "labels": partial(compile_metadata, "labels"),
    "annotations": partial(compile_metadata, "annotations"),
    "replicas": compile_replicas,
    "resources": compile_resources,
    "node_selector": compile_node_selector,
    "tolerations": compile_tolerations,
    "image_pull_secrets": compile_image_pull_secrets,
    "storage_class": compile_storage_class,
    "ingress_host": compile_ingress_host,
    "args": partial(compile_words, "args"),
    "command": partial(compile_words, "command"),
    "remove": compile_remove,
    "json_patch": compile_json_patch,
    "merge_patch": compile_merge_patch,
    "cel": compile_cel,
}
