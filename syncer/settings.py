"""Settings of the operator: command-line flags, `SYNCLINE_*` variables and a YAML file, read once.

The three agree in names: `--http-bind`, `SYNCLINE_HTTP_BIND` and `http-bind:` (in YAML `http_bind` and
`httpBind` are understood too). A flag wins over a variable, a variable over the file, the file over the default.
Values that are wrong never appear in a message, because a misplaced secret would appear with them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from syncer.binds import Bind, flag_name, parse_bind
from syncer.errors import StartError

ENVIRONMENT_PREFIX: Final = "SYNCLINE_"
MAX_CONFIG_BYTES: Final = 1 << 20
# Names that the design has and this version does not: switching one on is refused, never ignored.
LATER_GATES: Final = frozenset({"PullMode", "Quota", "Upsync", "Views", "WavedRollout"})
# Environment variables with our prefix that belong to other tools of this project.
FOREIGN_VARIABLES: Final = frozenset({"SYNCLINE_ASSETS", "SYNCLINE_CONFIG", "SYNCLINE_DEBUG"})


class SettingsError(StartError):
    """The settings are wrong: unknown key, unreadable or invalid file, value out of range (B38)."""

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause, hint, exit_code=2)


def _parse_gates(value: object) -> object:
    """`A=true,B=false` as it stands in a flag or a variable; YAML gives a mapping already."""
    if not isinstance(value, str):
        return value
    gates: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in value.split(","))):
        name, separator, state = item.partition("=")
        if not separator:
            raise ValueError("must be NAME=true|false, separated by commas")
        gates[name.strip()] = state.strip()
    return gates


def _parse_webhooks(value: object) -> object:
    """YAML 1.1 reads a bare `off` as the boolean false."""
    return {False: "off", True: "auto"}.get(value, value) if isinstance(value, bool) else value


def _parse_list(value: object) -> object:
    """`edge-*,region=eu*` as it stands in a flag or a variable; YAML may give a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


BindField = Annotated[Bind, NoDecode, BeforeValidator(parse_bind)]
_SERVICE_NAME: Final = r"service://[a-z]([a-z0-9-]{0,61}[a-z0-9])?\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.svc:\d{1,5}"
Url = Annotated[str, Field(pattern=r"^https://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)]

WebhookUrl = Annotated[str, Field(pattern=rf"^(https://[^\s/?#@]+(/[^\s?#]*)?|{_SERVICE_NAME})$", max_length=2048)]


class OperatorSettings(BaseSettings):
    """Everything `syncline operator` can be told. Frozen; parts of it are handed down as plain values."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    kubeconfig: Path | None = Field(
        None, description="kubeconfig of the upstream cluster; default: $KUBECONFIG, then in-cluster"
    )
    context: str | None = Field(None, description="context in that kubeconfig; default: its current context")
    http_bind: BindField = Field(Bind("127.0.0.1", 8080), description="HOST:PORT of /healthz, /readyz and /metrics")
    hub_bind: BindField = Field(
        Bind("127.0.0.1", 8443), description="HOST:PORT of the hub (HTTPS), which the CLI talks to"
    )
    hub_url: Url | None = Field(
        None, description="https:// URL under which people reach the hub; default: made from hub-bind"
    )
    hub_names: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)] = Field(
        (), description="further host names and addresses for the hub's certificate, beside those of the URLs"
    )
    replica_url: Annotated[Url, Field(max_length=512)] | None = Field(
        None,
        description="https:// URL under which other replicas reach this one replica; default: made from hub-bind",
    )
    agent_url: Annotated[Url, Field(max_length=512)] | None = Field(
        None,
        description="https:// URL under which agents reach this one replica; the hub-url where only a balancer leads "
        "to replicas; default: replica-url",
    )
    webhooks: Annotated[Literal["auto", "off"], BeforeValidator(_parse_webhooks)] = Field(
        "auto", description="auto: admission webhooks are served and registered; off: the same rules at reconcile"
    )
    webhook_bind: BindField = Field(
        Bind("127.0.0.1", 0), description="HOST:PORT of the admission webhooks; port 0: any free one"
    )
    webhook_url: WebhookUrl | None = Field(
        None,
        description="https:// URL under which the API server reaches the webhooks, one for all replicas, or "
        "service://NAME.NAMESPACE.svc:PORT, a Service of its own cluster; "
        "default: made from webhook-bind, for the one replica that is registered",
    )
    leader_elect: bool = Field(
        True, description="elect one leader among replicas; without it there must be one replica only"
    )
    # 15/10/2 are the defaults of Kubernetes' own components: a KILLed leader is replaced after at most
    # 15 s + one retry, and a leader without an answer stops 5 s before anybody else may start.
    lease_seconds: float = Field(
        15, gt=0, le=3600, description="s without a renewal after which another replica takes over"
    )
    lease_renew_seconds: float = Field(10, gt=0, description="s without a renewal after which the leader stops writing")
    lease_retry_seconds: float = Field(2, gt=0, description="s between two looks at the lease")
    drain_seconds: float = Field(10, ge=0, le=300, description="s that SIGTERM leaves to writes in flight")
    probe_seconds: float = Field(10, gt=0, le=300, description="s between two probes of a target")
    probe_timeout_seconds: float = Field(5, gt=0, le=60, description="s after which a probe counts as failed")
    # One lost packet must not move work: three failures in a row, the last two asked for quickly.
    probe_failures: int = Field(3, ge=1, le=100, description="failed probes in a row that make a target not Ready")
    approve_registrations: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)] = Field(
        (), description="globs of names, and KEY=GLOB of labels, of clusters that join without approval by a person"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON lines"
    )
    feature_gates: Annotated[dict[str, bool], NoDecode, BeforeValidator(_parse_gates)] = Field(
        default_factory=dict, description="NAME=true|false, separated by commas"
    )

    @field_validator("feature_gates")
    @classmethod
    def _gates_are_known(cls, gates: dict[str, bool]) -> dict[str, bool]:
        for name, enabled in gates.items():
            if name not in LATER_GATES:
                raise ValueError(f"unknown feature gate {name[:64]!r}; known: {', '.join(sorted(LATER_GATES))}")
            if enabled:
                raise ValueError(f"NotYetSupported: feature gate {name}")
        return gates

    @model_validator(mode="after")
    def _lease_times_are_ordered(self) -> OperatorSettings:
        # A margin between "the leader stops" and "another one starts" is what keeps two from writing at once.
        if not self.lease_retry_seconds * 2 <= self.lease_renew_seconds <= self.lease_seconds * 0.8:
            raise ValueError("lease-retry-seconds x 2 <= lease-renew-seconds <= 0.8 x lease-seconds must hold")
        return self

    @model_validator(mode="after")
    def _webhooks_have_an_address(self) -> OperatorSettings:
        everywhere = self.webhook_bind.host in ("0.0.0.0", "::")  # noqa: S104 - compared
        if everywhere and self.webhooks == "auto" and self.webhook_url is None:
            raise ValueError("webhook-bind on all addresses needs webhook-url: say where the API server reaches it")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` hands in flags over file; only the environment is added here, between the two."""
        assert isinstance(init_settings, InitSettingsSource)
        given = dict(init_settings.init_kwargs)
        file_values = given.pop("_file", {})
        return (
            InitSettingsSource(settings_cls, given),
            EnvSettingsSource(settings_cls),
            InitSettingsSource(settings_cls, file_values),
        )


def variable_name(field: str) -> str:
    """`http_bind` as it is spelled in the environment: `SYNCLINE_HTTP_BIND`."""
    return ENVIRONMENT_PREFIX + field.upper()


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that mean nothing to us, sorted.

    They are reported and not refused: Kubernetes itself sets SYNCLINE_SERVICE_HOST and the like in every Pod of a
    namespace that has a Service called syncline.
    """
    known = {variable_name(field) for field in OperatorSettings.model_fields} | FOREIGN_VARIABLES
    service_link = re.compile(r"_(SERVICE_(HOST|PORT)|PORT)(_|$)")
    ours = (name for name in environ if name.startswith(ENVIRONMENT_PREFIX))
    return sorted(name for name in ours if name not in known and not service_link.search(name))


def load_settings(flags: Mapping[str, Any], config: Path | None = None) -> OperatorSettings:
    """The settings from flags, environment and file.

    Args:
        flags: field name → value; None means "not given".
        config: YAML file, or None; `SYNCLINE_CONFIG` names one too.
    Raises:
        SettingsError: one cause line, one hint line, exit code 2.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if config is None and os.environ.get("SYNCLINE_CONFIG"):
        config = Path(os.environ["SYNCLINE_CONFIG"])
    from_file = _read_file(config) if config is not None else {}
    try:
        return OperatorSettings(**{**given, "_file": from_file})
    except ValidationError as error:
        raise _explain(error, given, from_file, config) from None


def _read_file(path: Path) -> dict[str, Any]:
    """Field name → value; every key is known and stands there once."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes", "is this the settings file?")
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}", "check the path given with --config") from None
    except yaml.YAMLError as error:
        # The text of a YAMLError quotes the file; only the place is told.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{path}: invalid YAML{where}", "write one `name: value` on each line") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: must hold a mapping", "write one `name: value` on each line")
    known = {field.replace("_", ""): field for field in OperatorSettings.model_fields}
    values: dict[str, Any] = {}
    for key, value in content.items():
        field = known.get(re.sub(r"[-_]", "", str(key)).lower())
        if field is None:
            raise SettingsError(f"{path}: unknown key {str(key)[:64]!r}", _suggest(str(key)))
        if field in values:
            raise SettingsError(f"{path}: {flag_name(field)} is set twice", "keep one of the two spellings")
        values[field] = value
    return values


def _suggest(key: str) -> str:
    names = [flag_name(field) for field in OperatorSettings.model_fields]
    close = difflib.get_close_matches(key.replace("_", "-").lower(), names, n=1)
    return f"did you mean {close[0]}?" if close else "`syncline operator --help` lists the settings"


def _explain(
    error: ValidationError, flags: Mapping[str, Any], from_file: Mapping[str, Any], config: Path | None
) -> SettingsError:
    """The first finding, with the place the value came from and without the value."""
    finding = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = finding["msg"].removeprefix("Value error, ")
    field = str(finding["loc"][0]) if finding["loc"] else ""
    if field in flags:
        place = f"--{flag_name(field)}"
    elif variable_name(field) in os.environ:
        place = variable_name(field)
    elif field in from_file:
        place = f"{config}: {flag_name(field)}"
    else:
        place = "settings"
    if finding["type"] == "extra_forbidden":
        return SettingsError(f"unknown setting {flag_name(field)}", _suggest(field))
    model_field = OperatorSettings.model_fields.get(field)
    meaning = f"{flag_name(field)} is: {model_field.description}" if model_field else "see `syncline operator --help`"
    return SettingsError(f"{place}: {message}", meaning)
