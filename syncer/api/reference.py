"""docs/api-reference.md from the models: `python -m syncer.api.reference` writes it, `--check` shows drift."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syncer.api.common import ApiModel, ApiObject, Later, StatusModel, wire_name
from syncer.api.crds import KINDS
from syncer.api.hints import HINTS
from syncer.api.names import API_VERSION

FILE = Path(__file__).parents[2] / "docs" / "api-reference.md"
HEADER = f"""<!-- Generated from syncer/api by `python -m syncer.api.reference`; do not edit. -->
# API reference: `{API_VERSION}`

Every field with its type, default and meaning. *Required* stands where there is no default; *later* marks a field or
value whose schema exists before its code: using it is refused with `NotYetSupported: PATH`. The rules under a type are
checked by the API server itself (CEL) and again by the operator.

"""


def render_reference() -> str:
    """The whole document."""
    text = HEADER
    shared: dict[str, type[ApiModel]] = {}
    for kind in KINDS:
        text += _kind(kind)
        spec, status = _model_of(kind, "spec"), _model_of(kind, "status")
        name = status.__name__
        text += f"Fields of `spec`:\n\n{_table(spec)}{_rules(spec)}Its status is a [{name}](#{name.lower()}).\n\n"
        for found in (*_below(spec), status, *_below(status)):
            shared.setdefault(found.__name__, found)
    text += "## Types\n\n"
    for name, model in sorted(shared.items()):
        text += f"### {name}\n\n{_doc(model)}\n\n{_table(model)}{_rules(model)}"
    return text + _reasons()


def _kind(kind: type[ApiObject]) -> str:
    scope = "namespaced" if kind.namespaced else "cluster-scoped"
    columns = " · ".join(column.name.upper() for column in kind.columns if not column.priority)
    names = ", ".join(f"`{name}`" for name in kind.short_names)
    return f"## {kind.__name__}\n\n{_doc(kind)} ({scope}; short name {names}; columns: {columns})\n\n"


def _reasons() -> str:
    rows = "".join(f"| `{reason}` | {hint} |\n" for reason, hint in sorted(HINTS.items()))
    where = "In conditions, in `errors[]` of a placement and in Events."
    return f"## Reasons\n\n{where}\n\n| reason | what to do |\n|---|---|\n{rows}"


def _doc(model: type[ApiModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _model_of(model: type[ApiModel], field: str) -> type[ApiModel]:
    found = model.model_fields[field].annotation
    assert isinstance(found, type)
    assert issubclass(found, ApiModel)
    return found


def _below(model: type[ApiModel]) -> Iterator[type[ApiModel]]:
    """Every model that fields of `model` hold, at any depth."""
    for name in model.model_fields:
        for found in _models_in(model.model_fields[name].annotation):
            yield found
            yield from _below(found)


def _models_in(annotation: Any) -> Iterator[type[ApiModel]]:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _table(model: type[ApiModel]) -> str:
    source = model.model_json_schema(by_alias=True)
    if not model.model_fields:
        return "No fields.\n\n"
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        wire = wire_name(name)
        schema = source["properties"][wire]
        meaning = schema.get("description") or " ".join(map(_doc, _models_in(info.annotation)))
        for mark in info.metadata:
            if isinstance(mark, Later):
                which = ", ".join(f"`{value}`" for value in mark.values)
                meaning = f"{meaning} *later*{': ' + which if which else ''}".strip()
        rows.append(f"| `{wire}` | {_type(schema)} | {_default(model, wire, source)} | {_escape(meaning)} |")
    return "\n".join(rows) + "\n\n"


def _default(model: type[ApiModel], wire: str, source: dict[str, Any]) -> str:
    if wire in source.get("required", ()):
        return "required"
    default = source["properties"][wire].get("default")
    if issubclass(model, StatusModel) or default in (None, "", [], {}):
        return ""
    if isinstance(default, dict):
        return "its defaults"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`"


def _type(schema: dict[str, Any]) -> str:
    """A type in words, linked where it is one of ours."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_type(variant) for variant in schema["anyOf"] if variant.get("type") != "null")
    if schema.get("type") == "array":
        limit = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list of {_type(schema['items'])}{limit}"
    if schema.get("type") == "object":
        values = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
        return f"map to {_type(values)}" if isinstance(values, dict) else "object"
    bounds = [f"≥ {schema['minimum']}"] if "minimum" in schema else []
    bounds += [f"≤ {schema['maximum']}"] if "maximum" in schema else []
    return str(schema.get("type", "any")) + (f" {', '.join(bounds)}" if bounds else "")


def _rules(model: type[ApiModel]) -> str:
    lines = "".join(f"- {rule.message}\n" for rule in model.rules)
    return f"Rules:\n\n{lines}\n" if lines else ""


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the file, or with --check compare it; 1 when it differs."""
    text = render_reference()
    if "--check" in arguments:
        if not FILE.exists() or FILE.read_text() != text:
            sys.stderr.write(f"{FILE.name} is out of date; run python -m syncer.api.reference\n")
            return 1
        return 0
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
