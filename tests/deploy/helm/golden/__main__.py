"""`python -m tests.deploy.helm.golden` writes what the charts render for the values here; look at the difference."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.helm.render import template
from deploy.helm.tool import find_helm

FOLDER = Path(__file__).parent


def rendered(helm: Path) -> dict[Path, str]:
    """`{golden file: what the chart gives today}`."""
    found = {}
    for values in sorted(FOLDER.glob("*.values.yaml")):
        name = values.name.removesuffix(".values.yaml")
        chart = "syncline-agent" if name.startswith("agent") else "syncline"
        found[FOLDER / f"{name}.yaml"] = template(helm, chart, {}, file=values)
    return found


if __name__ == "__main__":
    for path, text in rendered(find_helm(os.environ, print)).items():
        path.write_text(text)
