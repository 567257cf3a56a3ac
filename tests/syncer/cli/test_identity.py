"""What `target add` writes on the target and upstream."""

from __future__ import annotations

import base64

import pytest
import yaml

from syncer.api.synctarget import AcceptedResources, SyncTarget
from syncer.cli import identity
from syncer.cli.errors import WrongUse

HUB = "3f2a9c1e-0000-4000-8000-000000000000"


@pytest.mark.parametrize("name", ["east", "a", "eu-west-1", "x" * 40])
def test_a_dns_label_of_forty_characters_may_name_a_target(name: str) -> None:
    assert identity.check_name(name) == name


@pytest.mark.parametrize("name", ["", "East", "a..b", "a/b", "a:b", "östlich", "-a", "a-", "x" * 41, "x" * 254, "a\n"])
def test_another_name_is_wrong_use_and_the_hint_gives_the_rule(name: str) -> None:
    """B05."""
    with pytest.raises(WrongUse) as caught:
        identity.check_name(name)
    assert caught.value.exit_code == 2
    assert "40 characters" in caught.value.hint


def test_labels_are_read_and_values_may_be_empty() -> None:
    texts = ["region=eu", "example.com/tier=", "a=b"]
    assert identity.parse_labels(texts) == {"region": "eu", "example.com/tier": "", "a": "b"}


@pytest.mark.parametrize("text", ["region", "=eu", "re gion=eu", "region=e u", "region=-eu", "a/b/c=d"])
def test_what_is_no_label_is_wrong_use(text: str) -> None:
    """B04."""
    with pytest.raises(WrongUse, match="is not KEY=VALUE"):
        identity.parse_labels([text])


def test_two_hubs_on_one_target_share_no_identity() -> None:
    assert identity.identity_name(HUB) == "syncline-3f2a9c1e"


def test_the_identity_is_bound_to_a_role_with_no_wildcard() -> None:
    """S73: least privilege; the rights of the accepted kinds, and no others."""
    manifests = {manifest["kind"]: manifest for manifest in identity.identity(HUB, AcceptedResources())}
    assert list(manifests) == ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Secret"]
    role, binding, token = manifests["ClusterRole"], manifests["ClusterRoleBinding"], manifests["Secret"]
    granted = [value for rule in role["rules"] for key in ("apiGroups", "resources", "verbs") for value in rule[key]]
    assert "*" not in granted
    assert not {"impersonate", "escalate", "bind", "update"} & set(granted)
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "syncline-3f2a9c1e"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "syncline-3f2a9c1e", "namespace": "syncline-system"}
    ]
    assert token["type"] == "kubernetes.io/service-account-token"
    assert token["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "syncline-3f2a9c1e"


def test_an_allowed_kind_widens_the_role() -> None:
    role = identity.identity(HUB, AcceptedResources(allow=("offers.shop.example",)))[2]
    assert any(rule["apiGroups"] == ["shop.example"] and rule["resources"] == ["offers"] for rule in role["rules"])


def test_the_stored_kubeconfig_holds_all_it_needs_inline() -> None:
    """B29: no files, no exec plugin, https with a CA."""
    server = identity.Server("https://east.example:6443", b"PEM", "east.internal")
    config = yaml.safe_load(identity.kubeconfig("east", server, "tok"))
    assert config["clusters"][0]["cluster"] == {
        "server": "https://east.example:6443",
        "certificate-authority-data": base64.b64encode(b"PEM").decode(),
        "tls-server-name": "east.internal",
    }
    assert config["users"][0]["user"] == {"token": "tok"}
    assert config["current-context"] == "east"
    stored = identity.secret("east", "text")
    assert base64.b64decode(stored["data"]["kubeconfig"]) == b"text"
    assert stored["metadata"]["namespace"] == "syncline-system"


def test_the_sync_target_is_valid_and_says_only_what_was_asked() -> None:
    plain = identity.sync_target("east", {"region": "eu"}, [])
    SyncTarget.parse(plain)
    assert set(plain["spec"]) == {"connection"}
    wide = SyncTarget.parse(identity.sync_target("east", {}, ["*.shop.example"]))
    assert wide.spec.resources.allow == ("*.shop.example",)
    ref = wide.kubeconfig_secret()
    assert ref is not None
    assert (ref.namespace, ref.name, ref.key) == ("syncline-system", "east", "kubeconfig")
