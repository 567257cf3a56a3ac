"""The map from demands to tests: docs/testing.md says which demand is covered, docstrings of tests name the demands.

`python -m tests.ids` writes the list of tests into the map, `--check` fails where the map does not tell the truth: a
demand that is called covered without a test, a test of a demand that the map calls open, or a list that is not what the
docstrings say.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "testing.md"
BEGIN: Final = "<!-- begin: written by python -m tests.ids -->"
END: Final = "<!-- end -->"
ID: Final = re.compile(r"\b[PFBRLS]\d{1,2}\b")
ROW: Final = re.compile(r"^\| ([PFBRLS]\d{1,2}) \|.*\| ([^|]*) \|$", re.M)
COVERED: Final = ("yes", "in part: ")
OPEN: Final = ("not yet", "later")

Found = dict[str, dict[str, list[str]]]  # {id: {path: [test, …]}}; an empty name means the whole module


def named(source: str) -> Iterator[tuple[str, str]]:
    """(id, test) for every demand that a docstring of a test, or of the module, names; "" stands for the module."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module):
            name = ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name.startswith("test"):
            name = node.name
        else:
            continue
        for demand in dict.fromkeys(ID.findall(ast.get_docstring(node) or "")):
            yield demand, name


def collect(files: Iterable[Path]) -> Found:
    """What the tests and benchmarks name, sorted."""
    found: Found = {}
    for file in sorted(files):
        for demand, name in named(file.read_text()):
            tests = found.setdefault(demand, {}).setdefault(file.relative_to(ROOT).as_posix(), [])
            if name not in tests:
                tests.append(name)
    return found


def order(demand: str) -> tuple[int, int]:
    """In the order of the map: properties, faults, bad input, races, load, security."""
    return "PFBRLS".index(demand[0]), int(demand[1:])


def listing(found: Found) -> str:
    """The list of tests by demand, as Markdown."""
    lines = []
    for demand in sorted(found, key=order):
        lines.append(f"- **{demand}**")
        for path, tests in found[demand].items():
            names = [f"`{name}`" for name in tests if name]
            lines.append(f"  - [{path}](../{path})" + (f": {', '.join(names)}" if names else ""))
    return "\n".join(lines)


def written(page: str, found: Found) -> str:
    """The page with the list as it should be.

    Raises:
        ValueError: the page has no place for it.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{listing(found)}\n\n{END}{tail}"


def faults(page: str, found: Found) -> list[str]:
    """Where the map and the tests disagree, one line each."""
    rows = ROW.findall(page)
    states = dict(rows)
    wrong = [f"{demand} stands in the map twice" for demand in states if sum(d == demand for d, _ in rows) > 1]
    for demand, state in states.items():
        if not state.startswith((*COVERED, *OPEN)):
            wrong.append(f"{demand}: state {state!r} is none of {', '.join((*COVERED, *OPEN))}")
        elif state.startswith(COVERED) and demand not in found:
            wrong.append(f"{demand} is called covered, and no docstring names it")
        elif state.startswith(OPEN) and demand in found:
            wrong.append(f"{demand} is called open, and tests name it: {', '.join(found[demand])}")
    wrong += [f"{demand} is not in the map: {', '.join(found[demand])}" for demand in found if demand not in states]
    if not wrong and written(page, found) != page:
        wrong.append("the list of tests is not what the docstrings say")
    return wrong


def main(arguments: list[str]) -> int:
    """Write the list, or check the map with `--check`; the exit code."""
    found = collect([*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "bench").rglob("*.py")])
    page = PAGE.read_text()
    if arguments != ["--check"]:
        page = written(page, found)
        PAGE.write_text(page)
    wrong = faults(page, found)
    for line in wrong:
        sys.stderr.write(f"docs/testing.md: {line}\n")
    if wrong:
        sys.stderr.write("hint: correct the map or the docstrings, then run: python -m tests.ids\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
