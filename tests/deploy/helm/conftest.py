"""`helm`: the one on PATH, in the cache, or built there; `render`: a chart's objects for some values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from deploy.helm.render import NAMESPACE, template
from deploy.helm.tool import find_helm

Objects = dict[tuple[str, str], dict[str, Any]]


class Render(Protocol):
    """`{(kind, name): manifest}` of a chart; `values` as for `--set`, `file` as for `--values`."""

    def __call__(
        self, chart: str, values: dict[str, str] | None = None, file: Path | None = None, namespace: str = NAMESPACE
    ) -> Objects: ...


@pytest.fixture(scope="session")
def helm() -> Path:
    return find_helm(os.environ, print)


@pytest.fixture(scope="session")
def render(helm: Path) -> Render:
    def rendered(
        chart: str, values: dict[str, str] | None = None, file: Path | None = None, namespace: str = NAMESPACE
    ) -> Objects:
        documents = yaml.safe_load_all(template(helm, chart, values or {}, file=file, namespace=namespace))
        return {(one["kind"], one["metadata"]["name"]): one for one in documents}

    return rendered
