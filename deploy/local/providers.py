"""The choice between providers."""

from __future__ import annotations

from pathlib import Path

from deploy.local.errors import GroundError
from deploy.local.existing import ExistingProvider
from deploy.local.local import LocalProvider
from deploy.local.provider import Provider


def provider(name: str, folder: Path, *, owner_pid: int | None = None) -> Provider:
    """Choose a provider by name.

    Args:
        name: `local`, `existing` or `kind`.
        folder: where its state lies.
        owner_pid: local fleets end once this process is gone.

    Raises:
        GroundError: there is no such provider.
    """
    if name == "local":
        return LocalProvider(folder, owner_pid=owner_pid)
    if name == "existing":
        return ExistingProvider(folder)
    if name == "kind":
        raise GroundError(
            "provider kind is not part of this version",
            hint="use PROVIDER=local, which needs no container engine, or hand in kubeconfigs of kind clusters: "
            "`kind get kubeconfig --name east > east.kubeconfig`, then PROVIDER=existing",
        )
    raise GroundError(f"there is no provider {name!r}", hint="choose local, existing or kind")
