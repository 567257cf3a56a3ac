"""What a placement's status says: its errors and conditions."""

from __future__ import annotations

import random

from syncer.api.placement import MAX_ERRORS
from syncer.engine.pair import State
from syncer.engine.placementstatus import Fold, fold
from tests.syncer.engine.worlds import Realm


def test_the_same_errors_are_listed_whatever_order_they_are_found_in() -> None:
    """The target as a whole comes first, then objects by name; what is not listed is counted."""
    names = ["", *(f"v1/ConfigMap/shop/c{number:02}" for number in range(MAX_ERRORS + 4))]
    for seed in range(5):
        entry = Fold()
        for name in random.Random(seed).sample(names, len(names)):
            entry.tell(name, "Forbidden", "no", 0.0)
        entry.close()
        assert [error["object"] for error in entry.errors] == names[:MAX_ERRORS]
        assert entry.more == len(names) - MAX_ERRORS


def conditions(realm: Realm, uid: str) -> dict[str, tuple[str, str]]:
    """{type: (status, reason)} of a placement, and its `reason` under ""."""
    status = fold(realm.world, realm.world.placements[uid], {}, "2026-01-01T00:00:00Z")
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]} | {"": ("", status["reason"])}


def test_conditions_say_what_comes_first_and_what_is_not_known() -> None:
    realm = Realm()
    uid = realm.place()
    late = {"Scheduled": ("True", "Scheduled"), "Synced": ("False", "Progressing"), "Ready": ("False", "Progressing")}
    assert conditions(realm, uid) == late | {"Scheduled": ("False", "NoTargets"), "": ("", "NoTargets")}
    realm.target("east")
    source = realm.deployment()
    assert conditions(realm, uid) == late | {"": ("", "")}
    realm.settle(source, "east", State.FAILED, "Forbidden", "no")
    wrong = ("False", "Forbidden")
    assert conditions(realm, uid) == late | {"Synced": wrong, "Ready": wrong, "": ("", "Forbidden")}
    realm.settle(source, "east", State.SYNCED)
    assert conditions(realm, uid) == late | {"Synced": ("True", "Synced"), "": ("", "")}
    realm.world.placements[uid].unread = "upstream deployments: no answer"
    blind = ("False", "Unreachable")
    assert conditions(realm, uid) == late | {"Synced": blind, "Ready": blind, "": ("", "Unreachable")}


def test_a_refused_edit_is_not_synced_although_the_version_before_it_is() -> None:
    """`kubectl wait --for=condition=Synced` asks for the newest generation, and that one is not in force."""
    realm = Realm()
    realm.target("east")
    uid = realm.place()
    realm.settle(realm.deployment(), "east", State.SYNCED)
    assert conditions(realm, uid)["Synced"] == ("True", "Synced")
    realm.place(transforms=[{"cel": {"path": "/data/x", "expression": "1 +"}}])
    record = realm.world.placements[uid]
    status = fold(realm.world, record, {}, "2026-01-01T00:00:00Z")
    newest = record.manifest.generation
    assert record.compiled is not None
    assert record.compiled.generation < newest
    assert {c["type"]: (c["status"], c["observedGeneration"]) for c in status["conditions"]} == {
        "Scheduled": ("False", newest),
        "Synced": ("False", newest),
        "Ready": ("False", newest),
        "Invalid": ("True", newest),
    }
    assert (status["reason"], status["selectedTargets"][0]["synced"]) == ("TransformFailed", 1)
    assert all("the last valid version is in force" in c["message"] for c in status["conditions"])
    realm.place()
    assert conditions(realm, uid)["Synced"] == ("True", "Synced")
