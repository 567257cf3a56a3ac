"""The map of demands and tests is checked by rules that are checked here."""

from __future__ import annotations

from tests.ids import BEGIN, END, faults, named, written

FOUND = {"B24": {"tests/test_a.py": ["test_x", "test_y"]}, "P3": {"tests/test_a.py": [""]}}
ROWS = "| P3 | proof | in part: one half |\n| B24 | a kind is missing | yes |\n| F21 | memory | not yet |\n"


def page(rows: str = ROWS) -> str:
    return written(f"{rows}\n{BEGIN}\n{END}\n", FOUND)


def test_docstrings_of_tests_and_modules_name_demands() -> None:
    source = '"""P3 for all."""\ndef test_x():\n    """B24, B24: once."""\ndef helper():\n    """F01: no test."""\n'
    assert list(named(source)) == [("P3", ""), ("B24", "test_x")]


def test_a_map_that_tells_the_truth_has_no_fault() -> None:
    assert faults(page(), FOUND) == []
    assert "- **B24**\n  - [tests/test_a.py](../tests/test_a.py): `test_x`, `test_y`" in page()


def test_every_untruth_is_named() -> None:
    assert faults(page(ROWS.replace("not yet", "yes")), FOUND) == ["F21 is called covered, and no docstring names it"]
    assert faults(page(ROWS.replace("yes", "later [2]")), FOUND) == [
        "B24 is called open, and tests name it: tests/test_a.py"
    ]
    assert faults(page(ROWS.replace("| B24 |", "| B25 |")), FOUND) == [
        "B25 is called covered, and no docstring names it",
        "B24 is not in the map: tests/test_a.py",
    ]
    assert faults(page(ROWS.replace("not yet", "soon")), FOUND)[0].startswith("F21: state 'soon' is none of")
    assert faults(page(ROWS + ROWS.splitlines()[2] + "\n"), FOUND) == ["F21 stands in the map twice"]


def test_a_list_that_is_older_than_the_tests_is_noticed() -> None:
    assert faults(page().replace("`test_y`", "`test_z`"), FOUND) == ["the list of tests is not what the docstrings say"]
