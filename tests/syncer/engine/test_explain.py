"""Reports on one object: why it is where it is. The worlds are made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from status.report import Health
from syncer.api.keys import GroupResource
from syncer.api.names import Reason
from syncer.api.shapes import Explanation, FieldOwner, PlacementMatch, TargetExplanation
from syncer.engine.explanations import described, field_owners
from syncer.engine.pair import State
from syncer.errors import TransientError
from syncer.kube.errors import Unreachable
from tests.syncer.engine.test_problems import landed, report
from tests.syncer.engine.worlds import DEPLOYMENTS, NAMESPACES, NOW, Realm, deployment

DEPLOY = GroupResource("apps", "deployments")
PATH = "/apis/apps/v1/namespaces/shop/deployments/web"


@pytest.fixture
def realm() -> Realm:
    """Targets east (eu) and west (us)."""
    made = Realm()
    made.target("east", labels={"region": "eu"})
    made.target("west", labels={"region": "us"})
    return made


async def explained(realm: Realm, name: str = "web", namespace: str = "shop") -> Explanation:
    found = await realm.reports.explain(DEPLOY, namespace, name)
    assert found is not None
    return found


def on(found: Explanation, target: str) -> TargetExplanation:
    return next(one for one in found.targets if one.name == target)


# Explain: the placements


async def test_a_placed_object_is_explained_with_what_each_target_has(realm: Realm) -> None:
    realm.place(conflict={"priority": 5})
    landed(realm, generation=4)
    found = await explained(realm)
    assert (found.object, found.generation, found.skip_reason) == ("apps/v1/Deployment/shop/web", 4, "")
    wins = ["east", "west"]
    assert found.placements == [PlacementMatch(name="Placement/shop/web", matched=True, priority=5, wins_on=wins)]
    assert on(found, "east") == TargetExplanation(
        name="east",
        selected=True,
        placement="Placement/shop/web",
        state="Synced",
        applied_generation=4,
        observed="present",
    )
    assert found.hints == []


async def test_the_placement_that_gives_way_says_where(realm: Realm) -> None:
    realm.place("all")
    realm.place("eu", targets={"names": ["east"]}, conflict={"priority": 10})
    landed(realm)
    winner, loser = (await explained(realm)).placements
    assert (winner.name, winner.wins_on, winner.loses_on) == ("Placement/shop/eu", ["east"], [])
    assert (loser.name, loser.wins_on, loser.loses_on) == ("Placement/shop/all", ["west"], ["east"])


async def test_an_object_that_nothing_selects_is_told_the_nearest_placement_and_the_term(realm: Realm) -> None:
    resources = [{"apiVersion": "apps/v1", "kind": "Deployment", "labelSelector": {"matchLabels": {"sync": "yes"}}}]
    realm.place(resources=resources)
    realm.upstream.answers[PATH] = {**deployment(labels={"sync": "no"}), "metadata": upstream_metadata(sync="no")}
    found = await explained(realm)
    near = found.placements[0]
    assert (near.name, near.matched, near.nearest) == ("Placement/shop/web", False, True)
    assert near.why_not == 'label sync is "no", wanted yes'
    assert found.targets == []
    assert found.hints == [
        "Change Placement/shop/web or the object so that the named terms fit, or add another placement."
    ]


async def test_what_the_informer_holds_is_not_asked_for_again(realm: Realm) -> None:
    realm.place()
    assert realm.put(DEPLOYMENTS, deployment("other")) is None
    assert (await explained(realm, "other")).placements[0].nearest
    assert realm.upstream.asked == []


async def test_placements_of_other_namespaces_are_not_told(realm: Realm) -> None:
    realm.place("secret-plans", namespace="bank")
    realm.put(DEPLOYMENTS, deployment())
    found = await explained(realm)
    assert found.placements == []
    assert "create a Placement in namespace shop" in found.hints[0]


async def test_a_placement_at_fault_is_named_where_nothing_else_selects_the_object(realm: Realm) -> None:
    realm.place("broken", transforms=[{"cel": {"path": "/spec/x", "expression": "object.("}}])
    realm.put(DEPLOYMENTS, deployment())
    (broken,) = (await explained(realm)).placements
    assert broken.name == "Placement/shop/broken"
    assert broken.why_not.startswith("TransformFailed: transforms[0]")


async def test_an_object_that_does_not_exist_is_none(realm: Realm) -> None:
    assert await realm.reports.explain(DEPLOY, "shop", "nothing") is None
    assert await realm.reports.explain(GroupResource("example.com", "widgets"), "shop", "web") is None
    assert await realm.reports.explain(DEPLOY, "", "web") is None
    assert realm.upstream.asked == ["/apis/apps/v1/namespaces/shop/deployments/nothing"]


async def test_an_upstream_that_does_not_answer_is_an_error_not_an_absence(realm: Realm) -> None:
    realm.upstream.answers[PATH] = Unreachable(0, "Unreachable", "connection refused")
    with pytest.raises(TransientError):
        await realm.reports.explain(DEPLOY, "shop", "web")


@pytest.mark.parametrize(
    ("namespace", "metadata", "why"),
    [
        ("shop", {"labels": {"syncline.io/skip": "true"}}, "it is labelled syncline.io/skip=true"),
        ("kube-system", {}, "namespace kube-system is protected"),
        (
            "shop",
            {"ownerReferences": [{"apiVersion": "v1", "kind": "App", "name": "x", "uid": "u", "controller": True}]},
            "it is controlled by App x; place that instead",
        ),
    ],
)
async def test_an_object_that_is_never_placed_says_why(
    realm: Realm, namespace: str, metadata: dict[str, Any], why: str
) -> None:
    """B13, B14, B19, B20."""
    realm.place()
    realm.put(DEPLOYMENTS, deployment("web", namespace, **metadata))
    found = await explained(realm, "web", namespace)
    assert found.skip_reason == why
    assert found.targets == []
    assert found.hints[0].startswith("Nothing to do unless you want it placed")


# Explain: the targets


async def test_a_target_that_the_placement_does_not_use_says_which_term_failed(realm: Realm) -> None:
    realm.place(targets={"labelSelector": {"matchLabels": {"region": "eu"}}})
    landed(realm)
    assert on(await explained(realm), "west") == TargetExplanation(
        name="west", why_not='label region is "us", wanted eu'
    )


async def test_a_target_left_out_by_a_limit_or_a_taint_says_so(realm: Realm) -> None:
    realm.target("south", taints=[{"key": "gpu", "value": "", "effect": "NoSchedule"}])
    realm.place(targets={"all": True, "maxTargets": 1})
    landed(realm)
    found = await explained(realm)
    whys = {one.name: one.why_not for one in found.targets}
    assert whys["south"] == "taint gpu:NoSchedule is not tolerated"
    assert sorted(why for name, why in whys.items() if name != "south") == ["", "maxTargets is 1"]


async def test_a_target_that_does_not_exist_is_among_the_targets(realm: Realm) -> None:
    realm.place(targets={"names": ["east", "mars"]})
    landed(realm)
    found = await explained(realm)
    assert on(found, "mars").why_not == "there is no such SyncTarget"
    assert found.hints[-1].startswith("Correct the name in spec.targets.names")


async def test_a_target_that_does_not_accept_the_kind_says_so(realm: Realm) -> None:
    """B18."""
    realm.target("south", resources={"deny": ["deployments.apps"]})
    realm.place()
    realm.deployment()
    found = await explained(realm)
    assert on(found, "south").why_not.startswith("ResourceDenied: south does not accept deployments.apps")
    assert any("spec.resources.allow" in text for text in found.hints)


async def test_a_failure_is_told_with_what_to_do(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    realm.settle(source, "east", State.FAILED, Reason.IMMUTABLE_FIELD, "spec.selector cannot change")
    one = on(await explained(realm), "east")
    assert (one.state, one.reason, one.message) == ("Failed", "ImmutableField", "spec.selector cannot change")
    assert "onImmutable" in one.hint


async def test_all_that_is_wrong_on_a_target_is_told_together(realm: Realm) -> None:
    realm.place()
    source = landed(realm, secret="web-regcred")
    report(source, "east", Health.PROGRESSING)
    assert source.aggregator is not None
    source.aggregator.note("east", "ImagePullBackOff", "web-1: Back-off")
    one = on(await explained(realm), "east")
    assert (one.state, one.reason) == ("Synced", "MissingReference")
    assert one.message == "v1/Secret/shop/web-regcred is not placed to east; ImagePullBackOff: web-1: Back-off"
    assert "imagePullSecrets" in one.hint
    realm.settle(source, "east", State.SYNCED, Reason.MISSING_REFERENCE, "v1/Secret/shop/web-regcred is not there")
    assert on(await explained(realm), "east").message == one.message  # and not twice


async def test_a_silent_target_is_unknown_and_the_rest_is_what_was_seen_last(realm: Realm) -> None:
    realm.place()
    landed(realm, generation=2)
    realm.apis["east"].answers[PATH] = Unreachable(0, "Unreachable", "timeout")
    found = await explained(realm)
    assert (on(found, "east").observed, on(found, "east").applied_generation) == ("unknown", 2)
    assert on(found, "west").observed == "present"
    assert found.hints == ["east could not be asked just now; what is told of it is what was seen last."]


async def test_in_sync_on_a_target_that_is_away_is_not_claimed(realm: Realm) -> None:
    realm.place()
    landed(realm)
    west = realm.world.targets["west"]
    west.link = None
    west.set_reachable(False, NOW, "connection refused")
    one = on(await explained(realm), "west")
    assert (one.state, one.reason, one.observed) == ("Unknown", "TargetNotReady", "unknown")
    assert one.message == "west is not Ready: connection refused"


async def test_an_object_that_is_not_there_yet_is_absent(realm: Realm) -> None:
    realm.place()
    realm.deployment()
    one = on(await explained(realm), "east")
    assert (one.state, one.observed, one.applied_generation) == ("Pending", "absent", None)


async def test_an_object_of_somebody_else_carries_no_generation_of_ours(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    realm.apis["east"].answers[PATH] = deployment(uid="theirs", resourceVersion="9")
    realm.settle(source, "east", State.FAILED, Reason.ALREADY_EXISTS, "not made by Syncline")
    one = on(await explained(realm), "east")
    assert (one.observed, one.applied_generation) == ("present", None)


async def test_what_is_being_removed_says_why(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    realm.place(targets={"names": ["east"]})
    realm.settle(source, "west", State.DELETING)
    one = on(await explained(realm), "west")
    assert (one.selected, one.state, one.observed) == (False, "Deleting", "present")
    assert one.why_not.startswith("Placement/shop/web was changed (generation ")
    assert one.why_not.endswith("; being deleted on the target")


async def test_an_object_gone_upstream_is_explained_while_something_is_left(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    source.object = None
    source.gone = "DELETED event of source uid uid-1"
    found = await explained(realm)
    assert found.generation == 0
    assert "It is gone upstream; what is left on targets is being removed." in found.hints


async def test_transforms_that_apply_are_listed_without_their_secrets(realm: Realm) -> None:
    realm.place(
        transforms=[
            {"image": {"registry": "mirror.example"}, "targets": {"names": ["east"]}},
            {"env": {"set": {"TOKEN": "s3cr3t", "REGION": "eu"}}},
            {"args": {"append": ["--password=s3cr3t"]}, "kinds": ["Deployment"]},
            {"replicas": 3, "kinds": ["StatefulSet"]},
        ]
    )
    landed(realm)
    found = await explained(realm)
    assert on(found, "east").transforms == [
        "[0] image registry=mirror.example",
        "[1] env set=TOKEN,REGION",
        "[2] args append=(1)",
    ]
    assert on(found, "west").transforms == ["[1] env set=TOKEN,REGION", "[2] args append=(1)"]


async def test_a_share_of_a_division_is_listed_before_the_transforms(realm: Realm) -> None:
    realm.place(replicas={"mode": "Divide", "weights": {"static": {"east": 1, "west": 1}}})
    realm.deployment()
    assert on(await explained(realm), "east").transforms == ["Divide replicas=1"]


@pytest.mark.parametrize(
    ("operation", "value", "text"),
    [
        ("replicas", 0, "0"),
        ("remove", ["/spec/paused", "/spec/x"], "/spec/paused,/spec/x"),
        ("jsonPatch", [{"op": "add"}, {"op": "remove"}], "(2)"),
        ("mergePatch", {"stringData": {"password": "s3cr3t"}}, "stringData=password"),
        ("mergePatch", "stringData: {password: s3cr3t}", "(given as text)"),
        ("labels", {"set": {"x" * 100: "y"}, "remove": []}, "set=" + "x" * 79 + "…"),
        ("command", {"containers": ["web"], "set": ["sh", "-c"]}, "containers=(1) set=(2)"),
    ],
)
def test_parameters_are_told_in_a_few_words(operation: str, value: Any, text: str) -> None:
    assert described(operation, value) == text


# Field owners


def entry(manager: str, fields: dict[str, Any], subresource: str = "", operation: str = "Apply") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
IMAGE: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}}}


def test_owners_are_those_beside_us() -> None:
    live = deployment() | {
        "metadata": {
            "managedFields": [
                entry("syncline", {**REPLICAS, "f:metadata": {"f:labels": {"f:app": {}}}}),
                entry("kubectl", IMAGE, operation="Update"),
                entry("scaler", REPLICAS, subresource="scale"),
                entry("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status"),
                entry("kube-controller-manager", {"f:metadata": {"f:annotations": {"f:revision": {}}}}),
                entry("somebody", {"f:metadata": {"f:labels": {"f:app": {}}}}),
            ]
        }
    }
    assert field_owners(live) == [
        FieldOwner(field="/metadata/labels/app", manager="syncline, somebody"),
        FieldOwner(field="/spec/replicas", manager="syncline, scaler"),
        FieldOwner(field="/spec/template/spec/containers/0/image", manager="kubectl"),
    ]


def test_owners_are_untrusted_text_and_bounded() -> None:
    """B27."""
    many: dict[str, Any] = {"f:spec": {f"f:x{index}": {} for index in range(200)}}
    owners = field_owners({"metadata": {"managedFields": [entry("a\x1b[31m\nb", many), "nonsense", entry("c", {})]}})
    assert len(owners) == 50
    assert owners[0].manager.isprintable()
    assert field_owners({"metadata": None}) == []


async def test_owners_are_read_live(realm: Realm) -> None:
    realm.place()
    source = realm.deployment()
    realm.land(source, "east", [entry("syncline", {}), entry("kubectl", REPLICAS)])
    assert on(await explained(realm), "east").owners == [FieldOwner(field="/spec/replicas", manager="kubectl")]


async def test_managed_fields_that_make_no_sense_do_no_harm(realm: Realm) -> None:
    realm.place()
    source = realm.deployment()
    realm.land(source, "east", [entry("kubectl", {"f:spec": {"k:{nonsense": {"f:x": {}}}})])
    assert on(await explained(realm), "east").observed in ("present", "unknown")


async def test_a_cluster_scoped_kind_is_found_without_a_namespace(realm: Realm) -> None:
    realm.place("base", namespace="", resources=[{"apiVersion": "v1", "kind": "Namespace", "names": ["team-*"]}])
    realm.put(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    found = await realm.reports.explain(NAMESPACES.group_resource, "", "shop")
    assert found is not None
    assert found.object == "v1/Namespace/shop"
    assert found.placements[0].why_not == "name shop does not match team-*"
    assert found.hints == ["Nothing to do: a target gets the namespace as soon as something in it is placed there."]


async def test_an_upstream_that_is_not_read_yet_is_among_the_hints(realm: Realm) -> None:
    realm.place()
    landed(realm)
    realm.sight.unsettled = "the kinds that placements name are being looked up"
    assert (await explained(realm)).hints == [
        "Wait: the upstream is not read completely (the kinds that placements name are being looked up)."
    ]


async def test_an_autoscaler_that_stays_behind_is_among_the_hints(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    realm.world.scaled["shop", "Deployment", "web"] = source.key._replace(name="web-scaler")
    assert (await explained(realm)).hints == ["Add the HorizontalPodAutoscaler to spec.resources of the placement."]


def upstream_metadata(**labels: str) -> dict[str, Any]:
    return {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1", "generation": 1, "labels": labels}
