"""What the clusters are made of: pinned tools, images, networks, files of the node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.local.assets import KUBERNETES_VERSION, MODULES, Module
from deploy.local.errors import GroundError
from deploy.local.kind import images, network, nodeimage, rootfs, tools
from deploy.local.kind.site import BUILT, Site, cluster_config, node_of

CONFIG = """\
version = 2

[proxy_plugins]
# comment
[proxy_plugins."fuse-overlayfs"]
  type = "snapshot"

[plugins."cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
"""


def pins(module: str) -> dict[str, str]:
    """{Go module: version} of a go.mod, replacements included."""
    text = (MODULES / module / "go.mod").read_text()
    return dict(re.findall(r"^\s*(?:replace )?(?:\S+ => )?(\S+) (v\S+)", text, re.MULTILINE))


def test_kubelet_and_control_plane_are_of_one_version_in_every_part() -> None:
    node, control_plane = pins("node"), pins("kubernetes")
    assert node["k8s.io/kubernetes"] == control_plane["k8s.io/kubernetes"] == KUBERNETES_VERSION
    assert node["k8s.io/api"] == control_plane["k8s.io/api"] == KUBERNETES_VERSION.replace("v1.", "v0.")


@pytest.mark.parametrize("module", tools.TOOL_MODULES, ids=lambda module: module.name)
def test_each_module_has_the_tools_that_are_built_of_it(module: Module) -> None:
    text = (module.folder / "go.mod").read_text()
    assert [package for package in module.packages.values() if not re.search(rf"\s{package}\n", text)] == []
    assert (module.folder / "go.sum").read_text()


def test_versions_that_are_stamped_are_those_that_are_pinned() -> None:
    assert pins("containerd")["github.com/containerd/containerd/v2"] == tools.CONTAINERD_VERSION
    assert pins("crictl")["sigs.k8s.io/cri-tools"] == tools.CRICTL_VERSION


def test_the_image_gets_another_folder_when_a_pin_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    before = nodeimage.image_folder(environ)
    monkeypatch.setattr(nodeimage, "TOOL_MODULES", tools.TOOL_MODULES[:-1])
    assert nodeimage.image_folder(environ) != before
    assert before.parent == tmp_path / "syncline"


def test_a_section_goes_with_its_subsections_and_nothing_else() -> None:
    assert rootfs.without_section(CONFIG, "[proxy_plugins]") == (
        'version = 2\n\n[plugins."cri"]\n  sandbox_image = "registry.k8s.io/pause:3.10"\n'
    )


def test_a_name_is_read_from_source_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    assert images._quoted(path, "sandbox_image =") == "registry.k8s.io/pause:3.10"
    with pytest.raises(GroundError, match="does not say `const kindnetdImage =`"):
        images._quoted(path, "const kindnetdImage =")


def test_links_of_a_root_file_system_lead_into_it_and_never_to_this_machine(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/libc.so.6").write_text("theirs")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib64").mkdir()
    (root / "usr/lib64/ld.so").symlink_to("/lib/libc.so.6")
    assert images.within(root, "usr/lib64/ld.so").read_text() == "theirs"
    assert images.within(root, "usr/lib64/ld.so").resolve().is_relative_to(root)
    assert images.within(root, "lib/libc.so.6").read_text() == "theirs"


def test_each_cluster_has_a_network_of_its_own() -> None:
    placed = network.networks(("upstream", "east", "west"))
    assert [placed[name].number for name in ("upstream", "east", "west")] == [0, 1, 2]
    assert len({placed[name].arguments for name in placed}) == 3
    bridges = [
        argument.rpartition("=")[2] for item in placed.values() for argument in item.arguments if "opt" in argument
    ]
    assert all(len(bridge) <= 15 for bridge in bridges)


def test_only_calls_to_upstream_pass_between_networks() -> None:
    accepted = [rule for rule in network.rules() if "conntrack" not in rule]
    assert accepted == [["-I", "DOCKER-USER", "-i", "syncline+", "-o", "syncline0", "-j", "ACCEPT"]]


def test_only_our_own_node_image_does_without_the_network_of_kind() -> None:
    assert cluster_config(built=True)["networking"] == {"apiServerAddress": "127.0.0.1", "disableDefaultCNI": True}
    assert cluster_config(built=False)["networking"] == {"apiServerAddress": "127.0.0.1"}


def test_the_longest_name_of_a_target_still_fits_a_host_name() -> None:
    assert len(node_of("syncline-" + "x" * 40)) <= 63


def test_a_site_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    site = Site(BUILT, Path("/k/kind"), ("nsenter", "--net=/n", "--"), {"DOCKER_HOST": "unix:///d"}, "node:1")
    site.save(tmp_path)
    assert Site.load(tmp_path) == site
    with pytest.raises(GroundError, match="no kind fleet is up"):
        Site.load(tmp_path / "other")
