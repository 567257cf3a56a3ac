"""Kernel settings, cgroups and mounts: kept, put back, found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.errors import GroundError
from deploy.local.kind import cgroups, engine, mounts, sysctls, traces


def settings(root: Path, **values: str) -> Path:
    for name, value in {"vm/overcommit_memory": "0", "kernel/panic": "1", **values}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    return root


def test_what_was_changed_meanwhile_is_put_back_and_told(tmp_path: Path) -> None:
    root = settings(tmp_path / "sys")
    sysctls.save(tmp_path / "saved.json", root)
    settings(root, **{"kernel/panic": "10"})
    assert sysctls.restore(tmp_path / "saved.json", root) == ["kernel.panic: 10 -> 1"]
    assert (root / "kernel/panic").read_text() == "1"
    assert sysctls.restore(tmp_path / "saved.json", root) == []


def test_a_second_save_keeps_the_values_from_before_the_change(tmp_path: Path) -> None:
    root = settings(tmp_path / "sys")
    sysctls.save(tmp_path / "saved.json", root)
    settings(root, **{"kernel/panic": "10"})
    sysctls.save(tmp_path / "saved.json", root)
    assert sysctls.restore(tmp_path / "saved.json", root) == ["kernel.panic: 10 -> 1"]


def test_nothing_saved_is_nothing_to_put_back(tmp_path: Path) -> None:
    assert sysctls.restore(tmp_path / "missing.json", tmp_path) == []


def test_limits_are_raised_and_never_lowered(tmp_path: Path) -> None:
    root = settings(tmp_path, **{"fs/inotify/max_user_instances": "128", "fs/inotify/max_user_watches": "9999999"})
    sysctls.raise_limits(root)
    assert (root / "fs/inotify/max_user_instances").read_text() == "1024"
    assert (root / "fs/inotify/max_user_watches").read_text() == "9999999\n"


def test_cgroups_are_found_in_every_hierarchy_the_deepest_first(tmp_path: Path) -> None:
    for hierarchy in ("memory", "pids"):
        (tmp_path / hierarchy / "ours" / "a" / "b").mkdir(parents=True)
        (tmp_path / hierarchy / "theirs").mkdir()
    (tmp_path / "memory/ours/a/cgroup.procs").write_text("7\n8\n")
    found = [str(path.relative_to(tmp_path)) for path in cgroups.folders("ours", tmp_path)]
    assert sorted(found[:2]) == ["memory/ours/a/b", "pids/ours/a/b"]
    assert sorted(found[4:]) == ["memory/ours", "pids/ours"]
    assert cgroups.pids("ours", tmp_path) == {7, 8}


def test_empty_cgroups_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "memory/ours/a").mkdir(parents=True)
    (tmp_path / "memory/theirs").mkdir()
    assert cgroups.remove("ours", tmp_path)
    assert [path.name for path in (tmp_path / "memory").iterdir()] == ["theirs"]


def test_the_root_is_mounted() -> None:
    assert Path("/") in mounts.mount_points()


def test_pictures_differ_by_what_came_and_went() -> None:
    before = {"mount": ["/", "/old"], "network device": ["lo"]}
    after = {"mount": ["/", "/new"], "network device": ["lo"], "cgroup": ["/sys/fs/cgroup/x"]}
    assert traces.differences(before, after) == [
        "cgroup came: /sys/fs/cgroup/x",
        "mount came: /new",
        "mount went: /old",
    ]
    assert traces.differences(before, before) == []


def test_a_picture_of_now_does_not_differ_from_now(tmp_path: Path) -> None:
    traces.save(tmp_path / "picture.json")
    kinds = ("kernel setting", "network device")
    assert [line for line in traces.compare(tmp_path / "picture.json") if line.startswith(kinds)] == []


def test_of_two_who_start_an_engine_at_once_one_gets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "RUN", tmp_path / "run")
    first, second = (engine.Owner(tmp_path / name, tmp_path / "data") for name in ("first", "second"))
    engine._claim(first)
    with pytest.raises(GroundError, match="another kind fleet or build is starting"):
        engine._claim(second)
    assert engine.owner() == first
    assert not engine.runs()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nobody_ends_the_engine_of_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "RUN", tmp_path / "run")
    monkeypatch.setattr(engine, "_end_dockerd", pytest.fail)
    assert engine.owner() is None
    engine.stop(tmp_path / "mine", pytest.fail)
    engine._claim(engine.Owner(tmp_path / "theirs", tmp_path / "data"))
    engine.stop(tmp_path / "mine", pytest.fail)
    assert engine.owner() is not None
