"""Which questions the requesting user must pass before an object of ours is admitted. Pure: `handlers` asks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from syncer.api.keys import GroupResource
from syncer.api.names import GROUP
from syncer.api.placement import AnyPlacement, InlineObject, ObjectSelector, Placement
from syncer.api.policy import builtin_kind
from syncer.api.synctarget import SyncTarget
from syncer.hub.auth import Access, User
from syncer.webhooks.findings import Context

_TARGETS: Final = GroupResource(GROUP, SyncTarget.plural)
EVERY_TARGET: Final = ""  # a right on all SyncTargets, which RBAC grants only without resourceNames


class Question(NamedTuple):
    """One right that the requesting user needs, and where in the object the need comes from."""

    path: str
    access: Access

    def __str__(self) -> str:
        access = self.access
        text = f"{access.verb} {access.resource}" + (f"/{access.name}" if access.name else "")
        return text + (f" in namespace {access.namespace}" if access.namespace else "")


class AccessReviewer(Protocol):
    """Answers for a user; unknown is an error, never a no and never a yes."""

    async def allowed(self, user: User, access: Access) -> bool:
        """Raises TransientError if the API server could not be asked."""
        ...


def targets_used(placement: AnyPlacement) -> set[str]:
    """Names of the targets that a placement may ever reach.

    Names bound it, with or without labels. Labels or `all` alone do not: tomorrow's target may carry the label, so
    they take the right to use every target (`EVERY_TARGET`).
    """
    return set(placement.spec.targets.names) or {EVERY_TARGET}


def placement_questions(placement: AnyPlacement, context: Context) -> Iterator[Question]:
    """`use` on each target, `get` on each selected kind in its namespace, `create` on what the placement holds."""
    for name in sorted(targets_used(placement)):
        yield Question("spec.targets", Access("use", _TARGETS, name=name))
    asked = set()
    for index, entry in enumerate(placement.spec.resources):
        access = Access("get", _resource(entry, context), _namespace(placement))
        if access not in asked:
            asked.add(access)
            yield Question(f"spec.resources[{index}]", access)
    for index, held in enumerate(placement.spec.manifests):
        namespace = _namespace(placement) or held.metadata.namespace or ""
        access = Access("create", _resource(held, context), namespace)
        if access not in asked:
            asked.add(access)
            yield Question(f"spec.manifests[{index}]", access)


def _namespace(placement: AnyPlacement) -> str:
    return placement.metadata.namespace if isinstance(placement, Placement) else ""


def _resource(entry: ObjectSelector | InlineObject, context: Context) -> GroupResource:
    """What an entry reaches.

    A kind that nobody serves yet has no resource name to ask for: its whole group is asked for, so that it takes an
    administrator to place it blindly.
    """
    group = "*" if entry.api_version == "*" else entry.api_version.rpartition("/")[0]
    if "*" in (group, entry.kind):
        return GroupResource(group, "*")
    served = context.resolve(entry.api_version, entry.kind) or builtin_kind(entry.api_version, entry.kind)
    return GroupResource(group, served.resource if served else "*")


def sync_target_questions(old: SyncTarget | None, new: SyncTarget) -> Iterator[Question]:
    """`get` on the Secret it newly names: the operator must not read Secrets for people who may not."""
    secret = new.kubeconfig_secret()
    if secret is not None and (old is None or old.kubeconfig_secret() != secret):
        path = "spec.connection.direct.kubeconfigSecretRef"
        name = secret.name or new.metadata.name
        yield Question(path, Access("get", GroupResource("", "secrets"), secret.namespace, name))
