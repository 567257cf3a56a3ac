"""The user operations of `spec.transforms`: one model per operation, and the entry that holds exactly one of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from syncer.api.common import (
    MAX_ITEMS,
    ApiModel,
    Globs,
    LabelKey,
    LabelSelector,
    NonEmpty,
    Pointer,
    Quantity,
    Rule,
    TargetName,
    Toleration,
    wire_name,
)

Text = Annotated[str, Field(max_length=4096)]
Texts = Annotated[tuple[Text, ...], Field(max_length=MAX_ITEMS)]
Names = Annotated[tuple[NonEmpty, ...], Field(max_length=MAX_ITEMS)]
EnvName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^=]+$")]
LabelKeys = Annotated[tuple[LabelKey, ...], Field(max_length=MAX_ITEMS)]
# Values may hold ${target.…}, so that a label's own pattern fits only after expansion; the pipeline checks the result.
Expandable = Annotated[str, Field(max_length=1024)]


class TargetFilter(ApiModel):
    """Targets that one transform is for; names and labelSelector are ANDed."""

    names: Annotated[tuple[TargetName, ...], Field(max_length=MAX_ITEMS)] = ()
    label_selector: LabelSelector | None = None

    rules = (
        Rule(
            "size(self.names) > 0 || has(self.labelSelector)",
            "name targets, or leave the filter out to mean every target",
        ),
    )


class OnContainers(ApiModel):
    """Base of operations on containers, initContainers and ephemeralContainers of every pod template."""

    containers: Globs = ("*",)


class ImageTransform(OnContainers):
    """Replaces parts of image references. A short name is first expanded to docker.io/library/NAME."""

    registry: NonEmpty | None = Field(default=None, description="Replaces the registry host, port included.")
    repository: NonEmpty | None = Field(default=None, description="Replaces the path between registry and tag.")
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}$")] | None = None
    digest: Annotated[str, Field(pattern=r"^[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}$", max_length=256)] | None = (
        None
    )

    rules = (
        Rule(
            "has(self.registry) || has(self.repository) || has(self.tag) || has(self.digest)",
            "say at least one of registry, repository, tag, digest",
        ),
    )


class EnvTransform(OnContainers):
    """Sets and removes environment variables; `set` replaces the whole entry, valueFrom too."""

    set: Annotated[dict[EnvName, Text], Field(max_length=MAX_ITEMS)] = Field(default_factory=dict)
    remove: Names = ()


class WordsTransform(OnContainers):
    """Changes `args` or `command`: a `set` that is not empty replaces the list, then `remove`, then `append`."""

    set: Texts = ()
    append: Texts = ()
    remove: Texts = ()


class MetadataTransform(ApiModel):
    """Sets and removes labels or annotations of the object itself, never of a pod template."""

    set: Annotated[dict[LabelKey, Text], Field(max_length=MAX_ITEMS)] = Field(default_factory=dict)
    remove: LabelKeys = ()


Quantities = Annotated[dict[NonEmpty, Quantity], Field(max_length=MAX_ITEMS)]


class ResourceAmounts(ApiModel):
    """Container resources."""

    requests: Quantities = Field(default_factory=dict)
    limits: Quantities = Field(default_factory=dict)


class ResourcesTransform(OnContainers):
    """Scales the container resources that are there, then sets the ones given."""

    set: ResourceAmounts | None = None
    scale: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=16)] | None = Field(
        default=None, description='Factor such as "0.5".'
    )

    rules = (Rule("has(self.set) || has(self.scale)", "say at least one of set, scale"),)


class NodeSelectorTransform(ApiModel):
    """Changes the nodeSelector of every pod template."""

    set: Annotated[dict[LabelKey, Expandable], Field(max_length=MAX_ITEMS)] = Field(default_factory=dict)
    remove: LabelKeys = ()


class TolerationsTransform(ApiModel):
    """Adds tolerations to every pod template."""

    add: Annotated[tuple[Toleration, ...], Field(max_length=MAX_ITEMS)] = ()


class ImagePullSecretsTransform(ApiModel):
    """Replaces the imagePullSecrets of every pod template."""

    set: Names = ()


class StorageClassTransform(ApiModel):
    """Renames storage classes in PersistentVolumeClaims and volumeClaimTemplates."""

    map: Annotated[dict[NonEmpty, Expandable], Field(min_length=1, max_length=MAX_ITEMS)]


class IngressHostTransform(ApiModel):
    """Renames hosts in the rules and TLS entries of an Ingress."""

    map: Annotated[dict[NonEmpty, Expandable], Field(min_length=1, max_length=MAX_ITEMS)]


class JsonPatchOperation(ApiModel):
    """One operation of RFC 6902."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: Pointer
    from_: Pointer | None = None
    value: Any = None

    rules = (
        Rule(
            "(self.op in ['move', 'copy']) == has(self.from)", "move and copy need from; the others take none", ".from"
        ),
    )


class CelTransform(ApiModel):
    """Puts the result of a CEL expression over `object` (and `target.name`, `target.labels`) at a path."""

    path: Pointer
    expression: Annotated[str, Field(min_length=1, max_length=4096)]


OPERATIONS = (
    "image",
    "env",
    "labels",
    "annotations",
    "replicas",
    "resources",
    "node_selector",
    "tolerations",
    "image_pull_secrets",
    "storage_class",
    "ingress_host",
    "args",
    "command",
    "remove",
    "json_patch",
    "merge_patch",
    "cel",
)


def _mapping_or_text(value: Any) -> Any:
    if value is None or isinstance(value, dict | str):
        return value
    raise ValueError("a merge patch is a mapping, or a YAML text of one")


class Transform(ApiModel):
    """One step of the pipeline: exactly one operation, for all targets and kinds unless filtered."""

    targets: TargetFilter | None = None
    kinds: Annotated[tuple[NonEmpty, ...], Field(max_length=MAX_ITEMS)] = Field(
        default=(), description='Kinds this step is for, "Deployment" or "Widget.example.com"; empty means every kind.'
    )
    image: ImageTransform | None = None
    env: EnvTransform | None = None
    labels: MetadataTransform | None = None
    annotations: MetadataTransform | None = None
    replicas: Annotated[int, Field(ge=0)] | None = None
    resources: ResourcesTransform | None = None
    node_selector: NodeSelectorTransform | None = None
    tolerations: TolerationsTransform | None = None
    image_pull_secrets: ImagePullSecretsTransform | None = None
    storage_class: StorageClassTransform | None = None
    ingress_host: IngressHostTransform | None = None
    args: WordsTransform | None = None
    command: WordsTransform | None = None
    remove: Annotated[tuple[Pointer, ...], Field(min_length=1, max_length=MAX_ITEMS)] | None = None
    json_patch: Annotated[tuple[JsonPatchOperation, ...], Field(min_length=1, max_length=MAX_ITEMS)] | None = None
    merge_patch: Annotated[Any, AfterValidator(_mapping_or_text)] = Field(
        default=None, description="RFC 7396 merge patch, or the same as a YAML string."
    )
    cel: CelTransform | None = None

    @property
    def operation(self) -> str:
        """Wire name of the operation in use; of a valid transform there is exactly one."""
        used = self.operations()
        return used[0] if used else ""

    def operations(self) -> list[str]:
        """Wire names of all operations in use."""
        return [wire_name(name) for name in OPERATIONS if getattr(self, name) is not None]
