"""The hub's answers as text: what a person reads instead of the logs."""

from __future__ import annotations

import pytest

from syncer.api.shapes import (
    Explanation,
    FieldOwner,
    ObjectStatus,
    PlacementMatch,
    PodInfo,
    PodList,
    Problem,
    ProblemList,
    TargetExplanation,
    TargetStatus,
)
from syncer.cli import render

WEB = "apps/v1/Deployment/shop/web"


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (WEB, "Deployment/web"),
        ("v1/ConfigMap/shop/web", "ConfigMap/web"),
        ("v1/Namespace/shop", "Namespace/shop"),
        ("rbac.authorization.k8s.io/v1/ClusterRole/admin", "ClusterRole/admin"),
        ("Placement/shop/web", "Placement/web"),
        ("ClusterPlacement/base", "ClusterPlacement/base"),
        ("SyncTarget/east", "SyncTarget/east"),
    ],
)
def test_every_form_of_a_reference_is_shortened_to_kind_and_name(reference: str, text: str) -> None:
    assert render.short(reference) == text


def test_no_problem_is_said_in_one_line() -> None:
    assert render.problems(ProblemList()) == "Everything is in sync."
    assert render.problems(ProblemList(filtered=True)) == "Everything that you may see is in sync."


def test_problems_say_what_where_why_and_what_to_do_once_per_reason() -> None:
    found = ProblemList(
        items=[
            Problem(object=WEB, namespace="shop", target="west", reason="ImmutableField", message="spec.selector"),
            Problem(object=WEB, namespace="shop", target="east", reason="ImmutableField", message="spec.selector"),
            Problem(placement="Placement/shop/x", namespace="shop", reason="NoTargets", message="NoTargets: none"),
            Problem(target="north", reason="Frozen", message="80 deletes wait", hint="Ack it."),
        ],
        omitted=7,
    )
    text = render.problems(found)
    lines = text.splitlines()
    assert lines[0].split() == ["NAMESPACE", "OBJECT", "TARGET", "REASON", "SINCE", "MESSAGE"]
    assert lines[1].split() == ["shop", "Deployment/web", "west", "ImmutableField", "-", "spec.selector"]
    assert lines[3].split() == ["shop", "Placement/x", "-", "NoTargets", "-", "none"]
    assert lines[4].split()[:3] == ["-", "SyncTarget/north", "north"]
    assert text.count("onImmutable") == 1
    assert "Frozen:           Ack it." in text
    assert "7 more" in text


def test_wide_problems_show_the_whole_object_and_its_placement() -> None:
    text = render.problems(ProblemList(items=[Problem(object=WEB, placement="Placement/shop/web")]), wide=True)
    assert WEB in text
    assert "Placement/shop/web" in text


def test_status_tells_stale_from_fresh_from_no_data() -> None:
    """P8: a target that cannot be asked shows the age of what is told, not zero."""
    found = ObjectStatus(
        object=WEB,
        generation=3,
        targets=[
            TargetStatus(name="east", health="Healthy", counters={"replicas": 4, "readyReplicas": 4}, age_seconds=2),
            TargetStatus(name="north"),
            TargetStatus(name="west", counters={"replicas": 2}, age_seconds=600, stale=True, message="unreachable"),
        ],
    )
    lines = render.status(found).splitlines()
    assert lines[0] == f"{WEB}   generation 3"
    assert lines[3].split() == ["east", "Healthy", "replicas=4", "readyReplicas=4", "live", "-"]
    assert lines[4].split() == ["north", "Unknown", "-", "no", "data", "-"]
    assert "10m ago (stale)" in lines[5]


def test_kinds_without_a_generation_show_none() -> None:
    assert render.status(ObjectStatus(object="v1/ConfigMap/shop/web")).startswith("v1/ConfigMap/shop/web\n")


def test_status_without_targets_points_to_explain() -> None:
    assert "syncline explain" in render.status(ObjectStatus(object=WEB))


def test_pods_show_the_reason_in_place_of_the_phase_and_a_hint() -> None:
    found = PodList(
        items=[
            PodInfo(target="east", name="web-1", phase="Running", ready="1/1", age_seconds=60),
            PodInfo(target="west", name="web-2", phase="Pending", reason="ImagePullBackOff", node="n1", restarts=2),
        ],
        unreachable=["north"],
        omitted=1,
    )
    text = render.pods(found, wide=True)
    assert "ImagePullBackOff   2" in text
    assert "n1" in text
    assert "Check the image name" in text
    assert "not reachable: north" in text
    assert "1 more" in text
    assert render.pods(PodList()) == "No Pods."


def test_explain_names_the_placement_that_decides_and_the_nearest_that_does_not() -> None:
    found = Explanation(
        object=WEB,
        generation=3,
        placements=[
            PlacementMatch(name="Placement/shop/web", matched=True, priority=5, wins_on=["east"], loses_on=["west"]),
            PlacementMatch(name="Placement/shop/api", nearest=True, why_not='names ["api*"] do not match "web"'),
        ],
        hints=["Do this."],
    )
    text = render.explanation(found)
    assert "✓ Placement/shop/web: priority 5; decides on east; gives way on west" in text
    assert '✗ Placement/shop/api (the nearest): names ["api*"] do not match "web"' in text
    assert text.endswith("What to do\n  Do this.")


def test_explain_tells_for_each_target_what_it_gets_or_why_not() -> None:
    found = Explanation(
        object=WEB,
        targets=[
            TargetExplanation(
                name="east",
                selected=True,
                state="Synced",
                applied_generation=3,
                placement="Placement/shop/web",
                observed="present",
                owners=[FieldOwner(field="/spec/replicas", manager="autoscaler")],
                transforms=["[0] env REGION"],
            ),
            TargetExplanation(
                name="west", selected=True, state="Failed", reason="ImmutableField", message="spec.selector"
            ),
            TargetExplanation(name="north", why_not="region=ap does not match region=eu"),
        ],
    )
    text = render.explanation(found)
    assert "✓ east: Synced, generation 3, by Placement/shop/web" in text
    assert "/spec/replicas belongs to autoscaler" in text
    assert "transform [0] env REGION" in text
    assert "✗ west: Failed" in text
    assert "ImmutableField: spec.selector" in text
    assert "→ Put the old value back" in text
    assert "on the target: unknown" in text
    assert "✗ north: region=ap does not match region=eu" in text


def test_explain_says_why_an_object_is_never_placed() -> None:
    text = render.explanation(Explanation(object="v1/Secret/shop/t", skip_reason="ServiceAccount token"))
    assert "Never placed: ServiceAccount token" in text
    assert "none in this namespace" in text
