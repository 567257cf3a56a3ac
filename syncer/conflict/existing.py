"""An object of the wanted name is on the target and is not our copy: whose is it, and may we take it over?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from syncer.api.names import MANAGED_BY_LABEL, Reason
from syncer.transform.mark import MarkedObject, read_mark
from syncer.transform.skip import controller_of


class Owner(StrEnum):
    """Whose an object is that is not ours."""

    NOBODY = "Nobody"  # no mark: made by people or other tools
    CONTROLLER = "Controller"  # made by a controller on the target, whatever marks it inherited
    OTHER_HUB = "OtherHub"
    OTHER_SOURCE = "OtherSource"  # our hub's mark names another object


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in the way."""

    owner: Owner
    object: str  # "Deployment shop/web", for messages
    holder: str = ""  # the controller, the other hub's id, or the other source; cut and printable

    @classmethod
    def classify(cls, observed: MarkedObject, hub_id: str) -> Found:
        """Say whose an observed object is, which is known not to be ours."""
        where = f"{observed.namespace}/{observed.name}" if observed.namespace else observed.name
        what = f"{observed.kind} {where}"
        controller = controller_of(observed.owner_references)
        if controller is not None:
            return cls(Owner.CONTROLLER, what, _shown(f"{controller.kind} {controller.name}"))
        mark = read_mark(observed)
        label = observed.labels.get(MANAGED_BY_LABEL, hub_id)
        hub = mark.hub if mark is not None and mark.hub != hub_id else label
        if hub != hub_id:
            return cls(Owner.OTHER_HUB, what, _shown(hub))
        if mark is not None:
            source = f"{mark.namespace}/{mark.name}" if mark.namespace else mark.name
            return cls(Owner.OTHER_SOURCE, what, _shown(f"{mark.kind} {source}"))
        return cls(Owner.NOBODY, what)


def _shown(text: str) -> str:
    """Text of an untrusted object, fit for a message."""
    return "".join(letter for letter in text[:128] if letter.isprintable())


@dataclass(frozen=True, slots=True)
class Proceed:
    """Take the object over: apply to it and mark it."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Leave the object alone and say why."""

    reason: Reason
    message: str


Verdict: TypeAlias = Proceed | Refuse


def _abort(found: Found) -> Verdict:
    """Touch nothing that is not ours."""
    if found.owner is Owner.NOBODY:
        hint = "set spec.conflict.existing: Adopt to take it over, or rename one of them"
        return Refuse(Reason.ALREADY_EXISTS, f"{found.object} exists and is not ours; {hint}")
    return _refuse_other_source(found)


def _adopt(found: Found) -> Verdict:
    """Take what belongs to nobody."""
    return Proceed() if found.owner is Owner.NOBODY else _refuse_other_source(found)


def _overwrite(found: Found) -> Verdict:
    """Take also what is marked as a copy of another source."""
    return Proceed()


def _refuse_other_source(found: Found) -> Refuse:
    hint = "set spec.conflict.existing: Overwrite to take it over"
    return Refuse(Reason.ALREADY_EXISTS, f"{found.object} is marked as a copy of {found.holder}; {hint}")


STRATEGIES: Final[Mapping[str, Callable[[Found], Verdict]]] = {
    "Abort": _abort,
    "Adopt": _adopt,
    "Overwrite": _overwrite,
}


def resolve_existing(strategy: str, found: Found) -> Verdict:
    """Whether to take the object over.

    No strategy takes an object of another hub (two hubs would fight for it for ever) or of a controller on the target
    (it would put the object back, and a copy with a controller is never ours).

    Raises:
        KeyError: no such strategy; the API admits only names in `STRATEGIES`.
    """
    if found.owner is Owner.OTHER_HUB:
        hint = f"if that hub is gone: syncline target add --adopt-hub {found.holder}"
        return Refuse(Reason.CLAIMED_BY_OTHER_HUB, f"{found.object} belongs to hub {found.holder}; {hint}")
    if found.owner is Owner.CONTROLLER:
        return Refuse(Reason.ALREADY_EXISTS, f"{found.object} exists and is controlled by {found.holder} on the target")
    return STRATEGIES[strategy](found)
