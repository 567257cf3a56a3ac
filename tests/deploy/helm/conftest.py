"""`helm`: the one on PATH, in the cache, or built there; `render`: a chart's objects for some values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.render import template
from deploy.helm.tool import find_helm

Render = Callable[..., dict[tuple[str, str], dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> Path:
    return find_helm(os.environ, print)


@pytest.fixture(scope="session")
def render(helm: Path) -> Render:
    """`{(kind, name): manifest}`; values as keywords are not possible with dots, so they come as a mapping."""

    def rendered(chart: str, values: dict[str, str] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        documents = yaml.safe_load_all(template(helm, chart, values or {}))
        return {(one["kind"], one["metadata"]["name"]): one for one in documents}

    return rendered
