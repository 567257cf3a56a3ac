"""CustomResourceDefinitions from the models: `python -m syncer.api.crds` writes deploy/crds, `--check` shows drift.

pydantic's JSON schema is turned into what a structural schema allows: references inlined, null variants dropped (the
API server drops nulls itself), free values kept as they are, and the models' CEL rules and maturity marks attached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from syncer.api.common import ApiModel, ApiObject, Column, Later, StatusModel, wire_name
from syncer.api.names import GROUP, VERSION
from syncer.api.placement import ClusterPlacement, Placement
from syncer.api.registration import ClusterRegistration
from syncer.api.synctarget import SyncTarget
from syncer.api.transforms import OPERATIONS, JsonPatchOperation, Transform

Schema = dict[str, Any]
KINDS: tuple[type[ApiObject], ...] = (SyncTarget, Placement, ClusterPlacement, ClusterRegistration)
DIRECTORY = Path(__file__).parents[2] / "deploy" / "crds"
HEADER = "# Generated from syncer/api by `python -m syncer.api.crds`; do not edit.\n"

_STRINGS = {"type", "description", "enum", "pattern", "format", "minLength", "maxLength"}
_NUMBERS = {"minimum", "maximum", "minItems", "maxItems", "minProperties", "maxProperties"}
_KEPT = frozenset(_STRINGS | _NUMBERS | {"x-kubernetes-list-type", "x-kubernetes-list-map-keys"})
_TEXT = frozenset({"description"})
_FREE = {"x-kubernetes-preserve-unknown-fields": True}


class _Dumper(yaml.SafeDumper):
    """Writes every value out: anchors help nobody who reads a CRD."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render_crds() -> dict[str, str]:
    """The CRDs as YAML, `{file name: text}`."""
    return {
        f"{kind.plural}.{GROUP}.yaml": HEADER
        + yaml.safe_dump(crd(kind), sort_keys=False, width=120, allow_unicode=True)
        for kind in KINDS
    }


def crd(kind: type[ApiObject]) -> dict[str, Any]:
    """One CustomResourceDefinition as a manifest."""
    name = kind.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["syncline"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": object_schema(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                }
            ],
        },
    }


def object_schema(kind: type[ApiObject]) -> Schema:
    """The whole structural schema of one kind."""
    source = kind.model_json_schema(by_alias=True)
    root = _Converter(source.get("$defs", {})).model(kind, source, "")
    plain = {"type": "string"}
    root["properties"] = {
        "apiVersion": plain,
        "kind": dict(plain),
        "metadata": _metadata(root["properties"]["metadata"]),
        "spec": root["properties"]["spec"],
        "status": {key: value for key, value in root["properties"]["status"].items() if key != "default"},
    }
    root["required"] = ["spec"]
    return root


class _Converter:
    """JSON schema of pydantic → structural schema; `path` is the wire path, for messages."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self.definitions = definitions

    def value(self, source: Schema, path: str) -> Schema:
        """Any schema node."""
        if "$ref" in source:
            name = source["$ref"].rsplit("/", 1)[-1]
            return self.model(_models()[name], self.definitions[name], path) | _only(source, _TEXT)
        variants = [variant for variant in source.get("anyOf", ()) if variant.get("type") != "null"]
        if variants:
            kinds = sorted(variant.get("type", "") for variant in variants)
            if kinds == ["integer", "string"]:
                return _only(source, _TEXT) | {"x-kubernetes-int-or-string": True}
            if len(variants) > 1:
                return _only(source, _TEXT) | _FREE
            return self.value(variants[0], path) | _only(source, _KEPT)
        if "type" not in source and "enum" not in source and "const" not in source:
            return _only(source, _TEXT) | _FREE | {"nullable": True}
        result = _only(source, _KEPT)
        if "const" in source:
            result |= {"type": "string", "enum": [source["const"]]}
        if "items" in source:
            result["items"] = self.value(source["items"], path + "[*]")
        if result["type"] == "object":
            result |= self._mapping(source, path)
        return result

    def _mapping(self, source: Schema, path: str) -> Schema:
        """A free mapping: by a key pattern, by a value schema, or with any content."""
        if patterns := source.get("patternProperties"):
            ((pattern, schema),) = patterns.items()
            return {
                "additionalProperties": self.value(schema, path),
                "x-kubernetes-validations": [_keys_match(pattern)],
            }
        values = source.get("additionalProperties")
        return {"additionalProperties": self.value(values, path)} if isinstance(values, dict) else dict(_FREE)

    def model(self, model: type[ApiModel], source: Schema, path: str) -> Schema:
        """One of our models, with its rules."""
        properties: Schema = {}
        for name, info in model.model_fields.items():
            wire = wire_name(name)
            here = f"{path}.{wire}".lstrip(".")
            field = self.value(source["properties"][wire], here)
            if info.default is None and not issubclass(model, StatusModel):
                field["nullable"] = True
            if not issubclass(model, StatusModel):
                default = source["properties"][wire].get("default")
                if default is not None or info.default_factory is dict:
                    field["default"] = _without_nulls(default or {} if field["type"] == "object" else default)
            for mark in info.metadata:
                if isinstance(mark, Later):
                    field.setdefault("x-kubernetes-validations", []).append(_not_yet(mark, field, here))
            properties[wire] = field
        result: Schema = {"type": "object", **_only(source, _TEXT), "properties": properties}
        if required := source.get("required"):
            result["required"] = required
        if model.model_config.get("extra") == "allow":
            result |= _FREE
        if model.rules:
            result["x-kubernetes-validations"] = [
                {"rule": rule.expression, "message": rule.message} | ({"fieldPath": rule.path} if rule.path else {})
                for rule in model.rules
            ]
        return result | _beyond_cel(model)


def _beyond_cel(model: type[ApiModel]) -> Schema:
    """Rules about fields of any type, which CEL cannot see."""
    if model is Transform:
        return {"oneOf": [{"required": [wire_name(name)]} for name in OPERATIONS]}
    if model is JsonPatchOperation:
        with_value = {"properties": {"op": {"enum": ["add", "replace", "test"]}}}
        return {"anyOf": [{"required": ["value"]}, {"not": with_value}]}
    return {}


def _not_yet(mark: Later, field: Schema, path: str) -> Schema:
    """The rule that refuses a use of what comes later; it runs only where the field is present."""
    if mark.values:
        rule = f"!(self in [{', '.join(repr(value) for value in mark.values)}])"
    else:
        rule = {"array": "size(self) == 0", "boolean": "!self"}.get(field["type"], "false")
    return {"rule": rule, "message": f"NotYetSupported: {path}"}


def _keys_match(pattern: str) -> Schema:
    return {"rule": f"self.all(key, key.matches({json.dumps(pattern)}))", "message": f"keys must match {pattern}"}


def _metadata(schema: Schema) -> Schema:
    """All that a CRD may say of metadata: which names are allowed."""
    name = schema["properties"]["name"]
    return {"type": "object"} | ({"properties": {"name": name}} if "pattern" in name else {})


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _column(column: Column) -> dict[str, Any]:
    result: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.description:
        result["description"] = column.description
    if column.priority:
        result["priority"] = column.priority
    return result


def _only(source: Schema, keys: frozenset[str]) -> Schema:
    return {key: value for key, value in source.items() if key in keys}


@cache
def _models() -> dict[str, type[ApiModel]]:
    def below(model: type[ApiModel]) -> Iterator[type[ApiModel]]:
        for child in model.__subclasses__():
            yield child
            yield from below(child)

    return {model.__name__: model for model in below(ApiModel)}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them; 1 when they differ."""
    rendered = render_crds()
    present = {path.name: path.read_text() for path in DIRECTORY.glob("*.yaml")}
    if "--check" in arguments:
        differing = sorted(name for name in rendered.keys() | present.keys() if rendered.get(name) != present.get(name))
        if differing:
            sys.stderr.write(f"deploy/crds is out of date: {', '.join(differing)}; run python -m syncer.api.crds\n")
        return 1 if differing else 0
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, text in rendered.items():
        (DIRECTORY / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
