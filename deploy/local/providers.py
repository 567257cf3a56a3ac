"""The choice between providers."""

from __future__ import annotations

from pathlib import Path

from deploy.local.errors import GroundError
from deploy.local.existing import ExistingProvider
from deploy.local.kind.provider import MARK, KindProvider
from deploy.local.local import LocalProvider
from deploy.local.provider import Provider


def provider(name: str, folder: Path, *, owner_pid: int | None = None) -> Provider:
    """Choose a provider by name.

    Args:
        name: `local`, `existing` or `kind`.
        folder: where its state lies.
        owner_pid: the processes of a fleet end once this process is gone.

    Raises:
        GroundError: there is no such provider, or the folder has clusters of kind that another one would not end.
    """
    if name != "kind" and (folder / MARK).is_dir():
        raise GroundError(f"a kind fleet is up in {folder}", hint="end it with `make down`, or use another folder")
    if name == "local":
        return LocalProvider(folder, owner_pid=owner_pid)
    if name == "existing":
        return ExistingProvider(folder)
    if name == "kind":
        return KindProvider(folder, owner_pid=owner_pid)
    raise GroundError(f"there is no provider {name!r}", hint="choose local, existing or kind")
