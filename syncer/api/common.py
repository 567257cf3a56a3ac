"""What all our kinds share: the base model, its rule and maturity marks, selectors, conditions, metadata.

Models are snake_case in Python and camelCase on the wire. `spec` models refuse unknown fields, `status` models skip
them (a newer operator may have written more). Rules are CEL: the CRD carries them to the API server, and
`syncer.webhooks.rules` evaluates the very same text, so that both always agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from syncer.api.names import Reason
from syncer.errors import TerminalError

MAX_ITEMS = 64  # lists under a CEL rule: the API server estimates a rule's cost from the largest list it may meet
LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_KEY_PATTERN = rf"^([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{LABEL_NAME}$"
LABEL_VALUE_PATTERN = rf"^({LABEL_NAME})?$"
POINTER_PATTERN = r"^(/([^/~]|~0|~1)*)+$"


@dataclass(frozen=True)
class Rule:
    """One CEL rule over `self`, the object that carries it; false refuses the object with `message`.

    `path` is the field below `self` that the answer names, as the CRD's fieldPath spells it (".weights"), or "".
    """

    expression: str
    message: str
    path: str = ""


@dataclass(frozen=True)
class Later:
    """Marks a field whose schema exists before its code: any use is refused with `NotYetSupported: <path>`.

    `values` limits the mark to these values of an enum; empty means everything but the field's default.
    """

    values: tuple[str, ...] = ()


_WIRE_NAMES = {"cluster_uid": "clusterUID", "target_uid": "targetUID", "view_url": "viewURL", "from_": "from"}


def wire_name(name: str) -> str:
    """Name of a field on the wire."""
    return _WIRE_NAMES.get(name) or to_camel(name)


class ApiModel(BaseModel):
    """Base of everything below `spec`."""

    model_config = ConfigDict(alias_generator=wire_name, populate_by_name=True, extra="forbid", frozen=True)
    rules: ClassVar[tuple[Rule, ...]] = ()

    def to_wire(self) -> dict[str, Any]:
        """As JSON for the API server: camelCase, unset fields left out, defaults written."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """Base of everything below `status`: fields that a newer operator wrote are skipped."""

    model_config = ConfigDict(alias_generator=wire_name, populate_by_name=True, extra="ignore", frozen=True)


NonEmpty = Annotated[str, Field(min_length=1, max_length=253)]
Glob = Annotated[str, Field(min_length=1, max_length=253, description="Shell glob: * ? [seq] [!seq].")]
Globs = Annotated[tuple[Glob, ...], Field(max_length=MAX_ITEMS)]
LabelKey = Annotated[str, Field(pattern=LABEL_KEY_PATTERN, max_length=317)]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=63)]
Pointer = Annotated[str, Field(pattern=POINTER_PATTERN, max_length=512, description="JSON pointer (RFC 6901).")]
Duration = Annotated[
    str,
    Field(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", max_length=32, description='Duration such as "90s" or "1h30m".'),
]
IntOrString = int | str
Quantity = IntOrString

TARGET_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
TARGET_NAME_MAX = 40  # a certificate's common name holds 64 characters
TargetName = Annotated[str, Field(pattern=TARGET_NAME_PATTERN, min_length=1, max_length=TARGET_NAME_MAX)]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration_seconds(text: str) -> float:
    """Seconds of a `Duration`, already checked by its pattern."""
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", text))


class LabelRequirement(ApiModel):
    """One line of `matchExpressions`."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[LabelValue, ...], Field(max_length=MAX_ITEMS)] = ()

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (size(self.values) > 0)",
            "In and NotIn need values; Exists and DoesNotExist take none",
            ".values",
        ),
    )


class LabelSelector(ApiModel):
    """Kubernetes label selector; all terms must hold. An empty one is refused: nothing means all by accident."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_ITEMS)] = Field(default_factory=dict)
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=MAX_ITEMS)] = ()

    rules = (
        Rule(
            "size(self.matchLabels) + size(self.matchExpressions) > 0",
            'an empty label selector selects nothing here; name at least one label, or say names: ["*"] to mean all',
        ),
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all terms hold; NotIn and DoesNotExist also hold for a missing label, as in Kubernetes."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(_holds(term, labels) for term in self.match_expressions)


def _holds(term: LabelRequirement, labels: Mapping[str, str]) -> bool:
    match term.operator:
        case "In":
            return labels.get(term.key) in term.values
        case "NotIn":
            return term.key not in labels or labels[term.key] not in term.values
        case "Exists":
            return term.key in labels
        case "DoesNotExist":
            return term.key not in labels


class Toleration(ApiModel):
    """Kubernetes toleration. In `targets.tolerations` it answers a SyncTarget's taint, in a transform a node's."""

    key: LabelKey | None = Field(default=None, description="Unset means every key; operator Exists then.")
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Annotated[str, Field(max_length=1024)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Unset means every effect."
    )
    toleration_seconds: int | None = None

    rules = (
        Rule(
            "has(self.key) || self.operator == 'Exists'", "a toleration without key needs operator Exists", ".operator"
        ),
        Rule("self.operator == 'Equal' || !has(self.value)", "operator Exists takes no value", ".value"),
    )

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        """Whether it answers a taint."""
        if self.effect not in (None, effect) or self.key not in (None, key):
            return False
        return self.operator == "Exists" or (self.value or "") == value


class Condition(StatusModel):
    """One `metav1.Condition`."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: str = Field(default="", description="RFC 3339, UTC.")
    observed_generation: int = 0


Conditions = Annotated[
    tuple[Condition, ...],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class ObjectMeta(StatusModel):
    """The metadata that our code reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None


class ApiObject(ApiModel):
    """Base of our kinds. Subclasses add `kind`, `spec` and `status`, and say how the CRD presents them."""

    api_version: Literal["syncline.io/v1alpha1"] = "syncline.io/v1alpha1"
    metadata: ObjectMeta

    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    namespaced: ClassVar[bool]
    columns: ClassVar[tuple[Column, ...]]

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Model of a manifest from the API server.

        Raises:
            TerminalError: reason `Invalid`, every fault as `path: message`, `pointer` the first one's path.
        """
        try:
            return cls.model_validate(manifest)
        except ValidationError as error:
            faults = list(faults_of(error))
            text = "; ".join(f"{path}: {message}" for path, message in faults)
            raise TerminalError(Reason.INVALID, text, pointer=faults[0][0]) from None


@dataclass(frozen=True)
class Column:
    """One printer column of a CRD."""

    name: str
    json_path: str
    type: str = "string"
    description: str = ""
    priority: int = 0  # above 0: only with -o wide


def field_path(parts: tuple[str | int, ...]) -> str:
    """Path as the API server spells it: `spec.transforms[0].image.tag`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def faults_of(error: ValidationError) -> Iterator[tuple[str, str]]:
    """The faults as (path, message), without the input values: those may be secrets."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        message = "unknown field" if fault["type"] == "extra_forbidden" else fault["msg"]
        place = fault["loc"]
        if place[-1] == "[key]":  # pydantic names the key of a mapping; the API server names the mapping
            place = place[:-2]
        yield field_path(place), message


def walk(model: ApiModel, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], ApiModel]]:
    """The model and every model below it with its path on the wire, depth first."""
    yield path, model
    for name in type(model).model_fields:
        value = getattr(model, name)
        here = (*path, wire_name(name))
        if isinstance(value, ApiModel):
            yield from walk(value, here)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, ApiModel):
                    yield from walk(item, (*here, index))


def not_yet_supported(model: ApiModel) -> list[str]:
    """Paths of everything in use whose code comes later; the answer to each is `NotYetSupported: <path>`."""
    found: list[str] = []
    for path, part in walk(model):
        for name, info in type(part).model_fields.items():
            for mark in info.metadata:
                value = getattr(part, name)
                if isinstance(mark, Later) and (value in mark.values if mark.values else value != info.get_default()):
                    found.append(field_path((*path, wire_name(name))))
    return found
