"""The Go tools of the self-built way: kind itself and what its node image and helper images are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.local.assets import KUBERNETES_VERSION, Module, cache_root, digest_of, kubernetes_ldflags
from deploy.local.build import build_once
from deploy.local.provider import Report

CONTAINERD_VERSION = "v2.4.2"
CRICTL_VERSION = "v1.36.0"  # kind's base image names exactly this one
CNI_PLUGINS = ("ptp", "loopback", "host-local", "portmap")

_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins/plugins"

KIND = Module("kind", {"kind": "sigs.k8s.io/kind"})
TOOL_MODULES = (
    KIND,
    Module(
        "cni",
        {
            "ptp": f"{_CNI}/main/ptp",
            "loopback": f"{_CNI}/main/loopback",
            "host-local": f"{_CNI}/ipam/host-local",
            "portmap": f"{_CNI}/meta/portmap",
        },
    ),
    Module(
        "node",
        {tool: f"k8s.io/kubernetes/cmd/{tool}" for tool in ("kubelet", "kubeadm", "kube-proxy")},
        kubernetes_ldflags(),
    ),
    Module(
        "containerd",
        {tool: f"{_CONTAINERD}/cmd/{tool}" for tool in ("containerd", "containerd-shim-runc-v2", "ctr")},
        f"-s -w -X {_CONTAINERD}/version.Version={CONTAINERD_VERSION}",
        tags="no_btrfs,no_aufs,no_zfs,no_devmapper",
    ),
    Module(
        "crictl",
        {"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
        f"-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version={CRICTL_VERSION}",
    ),
    Module("coredns", {"coredns": "github.com/coredns/coredns"}),
    Module("local-path-provisioner", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
)


def ensure_tools(environ: Mapping[str, str], report: Report) -> Path:
    """Return the folder of all tools, building them first when they are not in the cache.

    Raises:
        GroundError: they cannot be built.
    """
    target = cache_root(environ) / f"kind-tools-{digest_of(TOOL_MODULES)}"
    told = (
        f"building kubelet, kubeadm and kube-proxy {KUBERNETES_VERSION}, containerd, CoreDNS, kind and what goes with "
        "them from Go modules, once for this machine; 8 to 12 minutes on two cores when nothing is cached"
    )
    build_once(target, TOOL_MODULES, environ, report, told=told)
    return target


def ensure_kind(environ: Mapping[str, str], report: Report) -> Path:
    """Return kind alone, built when it is not in the cache: ten seconds.

    Raises:
        GroundError: it cannot be built.
    """
    target = cache_root(environ) / f"kind-command-{digest_of((KIND,))}"
    build_once(target, (KIND,), environ, report, told="building kind from its Go module, once for this machine")
    return target / "kind"
