"""The Secrets of a hosted upstream: what is made, kept, and made anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from syncer.hub.certificates import RENEW_AFTER, SERVER_LIFETIME
from syncer.hub.hosted import ADMIN, AUTHORITY, CONTROLLERS, NAMES, OPERATOR, SERVER, secrets, server_names

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = secrets({}, namespace="syncline-system", now=NOW)


def again(present: dict[str, dict[str, bytes]], now: datetime = NOW, **more: object) -> list[str]:
    """Which Secrets would be written."""
    wanted = secrets(present, namespace="syncline-system", now=now, **more)  # type: ignore[arg-type]
    return [name for name in NAMES if wanted[name] != present.get(name)]


def subject(name: str) -> tuple[str, str]:
    """(user, group) of a client certificate."""
    found = x509.load_pem_x509_certificate(FIRST[name]["tls.crt"]).subject
    texts = [found.get_attributes_for_oid(oid) for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)]
    return str(texts[0][0].value), str(texts[1][0].value) if texts[1] else ""


def test_who_is_who() -> None:
    """S73: the operator is nobody's administrator."""
    assert set(FIRST) == set(NAMES)
    assert subject(OPERATOR) == ("syncline-operator", "")
    assert subject(ADMIN) == ("syncline-upstream-admin", "system:masters")
    assert subject(CONTROLLERS) == ("system:kube-controller-manager", "")


def test_only_the_administrators_kubeconfig_can_be_handed_out() -> None:
    """The others name the files beside them, which are read again when they are renewed."""
    for name, inline in ((ADMIN, True), (OPERATOR, False), (CONTROLLERS, False)):
        user = yaml.safe_load(FIRST[name]["kubeconfig"])["users"][0]["user"]
        assert ("client-key-data" in user) is inline
    operator = yaml.safe_load(FIRST[OPERATOR]["kubeconfig"])["clusters"][0]["cluster"]
    assert operator["server"] == "https://syncline-upstream.syncline-system.svc:6443"


def test_the_server_answers_to_its_names() -> None:
    certificate = x509.load_pem_x509_certificate(FIRST[SERVER]["tls.crt"])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == set(server_names("syncline-system"))
    assert "127.0.0.1" in server_names("syncline-system")


def test_the_key_of_tokens_is_in_a_form_of_which_the_server_takes_the_public_half() -> None:
    """kube-apiserver reads no public key out of PKCS #8."""
    assert FIRST[SERVER]["service-account.key"].startswith(b"-----BEGIN EC PRIVATE KEY-----")


def test_asking_again_changes_nothing() -> None:
    assert again(FIRST) == []
    assert again(FIRST, NOW + RENEW_AFTER - timedelta(days=1)) == []


def test_certificates_are_renewed_in_time_and_nothing_else() -> None:
    later = NOW + RENEW_AFTER + timedelta(days=1)
    assert later < NOW + SERVER_LIFETIME
    assert again(FIRST, later) == [SERVER, CONTROLLERS, OPERATOR, ADMIN]
    renewed = secrets(FIRST, namespace="syncline-system", now=later)
    assert renewed[SERVER]["service-account.key"] == FIRST[SERVER]["service-account.key"]
    assert renewed[AUTHORITY] == FIRST[AUTHORITY]


def test_another_name_makes_the_servers_certificate_anew_alone() -> None:
    assert again(FIRST, names=["upstream.example"]) == [SERVER]


@pytest.mark.parametrize("name", [SERVER, OPERATOR, ADMIN])
@pytest.mark.parametrize("damage", [{}, {"tls.crt": b"no PEM"}, {"tls.crt": FIRST[CONTROLLERS]["tls.crt"]}])
def test_what_is_damaged_or_missing_is_made_anew(name: str, damage: dict[str, bytes]) -> None:
    present = {**FIRST, name: {**FIRST[name], **damage} if damage else {}}
    assert again(present) == [name]


def test_the_key_of_service_accounts_outlives_either_secret_that_holds_it() -> None:
    """A new one would void every token."""
    key = FIRST[SERVER]["service-account.key"]
    for lost in (SERVER, CONTROLLERS):
        left = {name: data for name, data in FIRST.items() if name != lost}
        made = secrets(left, namespace="syncline-system", now=NOW)
        assert made[SERVER]["service-account.key"] == made[CONTROLLERS]["service-account.key"] == key


def test_a_certificate_of_another_user_is_not_taken() -> None:
    """Whoever swaps Secrets makes the operator no administrator."""
    swapped = {**FIRST, OPERATOR: {**FIRST[OPERATOR], **{k: FIRST[ADMIN][k] for k in ("tls.crt", "tls.key")}}}
    assert again(swapped) == [OPERATOR]


def test_a_damaged_authority_is_never_replaced() -> None:
    for damaged in ({"tls.crt": b"x"}, {**FIRST[AUTHORITY], "tls.key": FIRST[SERVER]["tls.key"]}):
        with pytest.raises(ValueError, match="Secret syncline-upstream-ca"):
            secrets({**FIRST, AUTHORITY: damaged}, namespace="syncline-system", now=NOW)
    with pytest.raises(ValueError, match="expired"):
        secrets(FIRST, namespace="syncline-system", now=NOW + timedelta(days=4000))
