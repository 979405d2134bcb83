"""Every setting, its default and its meaning; `config.example.toml` says the same, as a test proves."""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from jobdeck import limits
from jobdeck.durations import Duration
from jobdeck.errors import ConfigError, ValidationError
from jobdeck.notifiers import checked_address
from jobdeck.retention import Retention, parse_keep
from jobdeck.settings import database_url as urls
from jobdeck.settings import folders

_MODULE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
_TARGET = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
_EMBEDDED_FILE = "jobdeck.db"
_SECRETS_FILE = "secrets.toml"
# Slugs begin with a letter or digit, so no project's file can have this name.
_NO_PROJECT = "_team"


def _split_list(value: Any) -> Any:
    """The environment gives text: `a,b` or a JSON list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("looks like a JSON list but is none") from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value[:60]!r} is not an address or network; write it like 127.0.0.1/32") from None
    return value


def _checked_url(value: str) -> str:
    return urls.normalised(value) if value else value


def _address(value: str) -> str:
    return checked_address(value) if value else value


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


def _keep(value: Any) -> Any:
    try:
        return parse_keep(value)
    except ValidationError as error:
        raise ValueError(str(error)) from None


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


Queues = Annotated[
    list[Annotated[str, Field(pattern=limits.QUEUE_PATTERN)]], NoDecode, BeforeValidator(_split_list)
]
Types = Annotated[
    list[Annotated[str, Field(pattern=limits.JOB_TYPE_PATTERN)]], NoDecode, BeforeValidator(_split_list)
]
Labels = Annotated[
    list[Annotated[str, Field(pattern=limits.LABEL_PATTERN)]], NoDecode, BeforeValidator(_split_list)
]
Modules = Annotated[list[Annotated[str, Field(pattern=_MODULE)]], NoDecode, BeforeValidator(_split_list)]
Networks = Annotated[list[Annotated[str, AfterValidator(_network)]], NoDecode, BeforeValidator(_split_list)]
TargetName = Annotated[str, Field(pattern=_TARGET)]
Addresses = Annotated[list[Annotated[str, AfterValidator(_address)]], NoDecode, BeforeValidator(_split_list)]
Keep = Annotated[timedelta | None, BeforeValidator(_keep)]
Interval = Annotated[Duration, Field(ge=_seconds(0.01))]
Folder = Annotated[Path, AfterValidator(_absolute)]
File = Annotated[Path, AfterValidator(_absolute)]
Slug = Annotated[str, Field(pattern=limits.SLUG_PATTERN)]
SlugOrNone = Annotated[str, Field(pattern=rf"{limits.SLUG_PATTERN}|^$")]
SecretName = Annotated[str, Field(pattern=rf"^{limits.REFERENCE_NAME_PATTERN}$")]
Grants = list[Annotated[str, Field(pattern=rf"{limits.SLUG_PATTERN}|^\*$")]]


_KEPT = Retention()


class Section(BaseModel):
    """One `[section]` of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunnerSettings(Section):
    """A worker: `jobdeck runner`."""

    queues: Queues = []
    """Queues to work on; empty means all."""
    types: Types = []
    """Job types to take; empty means all that are installed and whose labels it has."""
    labels: Labels = []
    """What this worker offers, like "gpu", to job types that ask for it."""
    processes: Annotated[int, Field(ge=1, le=limits.PROCESSES_MAX)] = 1
    """Worker processes of one `jobdeck runner`; more than 1 are supervised by a parent."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = limits.WORKER_CONCURRENCY
    """Runs at the same time."""
    lease: Annotated[Duration, Field(ge=_seconds(2))] = _seconds(limits.LEASE)
    """How long a run stays with a silent worker before another takes it over; at least 2s."""
    poll: Interval = _seconds(1)
    """Longest wait for new runs when no wake-up comes."""
    shutdown_grace: Duration = _seconds(limits.SHUTDOWN_GRACE)
    """How long running work may go on after a stop is asked for."""
    cancel_notice: Interval = _seconds(limits.CANCEL_NOTICE)
    """How often a worker looks for asked cancels."""
    progress_interval: Interval = _seconds(0.25)
    """How often progress and log lines are written."""


class DatabaseSettings(Section):
    """The connections of one process."""

    pool_size: Annotated[int, Field(ge=2, le=100)] = 5
    """Connections of one process to PostgreSQL."""
    busy_timeout: Interval = _seconds(5)
    """How long to wait for another process that writes to SQLite."""
    command_timeout: Annotated[Duration, Field(ge=_seconds(0.1))] = _seconds(10)
    """How long PostgreSQL may take for one command, the wait for a lock included."""


class HttpSettings(Section):
    """What handlers may reach over HTTP."""

    allow: Networks = []
    """Private networks that handlers may call, like "127.0.0.1/32"; public https is always open."""
    per_host: Annotated[int, Field(ge=1, le=1000)] = limits.HTTP_PER_HOST
    """Requests of one worker to one host at a time; a run that gets no turn gives its slot back for a while."""


class CommandSettings(Section):
    """The `command` job type."""

    enabled: bool | None = None
    """Whether runs may start programs; unset means only on the embedded database."""


class ApprovalSettings(Section):
    """Runs that need an approval."""

    own: bool = False
    """Whether you may approve what you have triggered yourself."""


class SecretsSettings(Section):
    """What stands behind `secret://NAME` in the params of a run."""

    file: File | None = None
    """TOML with NAME = "value", mode 0600; unset means secrets.toml in ~/.config/jobdeck, where there is one."""
    teams: dict[SecretName, Grants] = {}
    """Teams that may use a shared secret, like CRM = ["acme"] ("*": all); not named: all on the embedded database."""


class SmtpSettings(Section):
    """The server that takes e-mail about runs; without a host none is sent from here."""

    host: str = ""
    """Server that takes e-mail about runs; empty means that this worker sends none."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    """587 with STARTTLS, 465 with TLS from the first byte."""
    starttls: bool = True
    """Whether to refuse a server that does not encrypt; false is for one on the same machine."""
    username: str = ""
    """Empty means without logging in."""
    password: Annotated[str, Field(repr=False)] = ""
    """Of that user; secret://NAME takes it from the secrets."""
    sender: Annotated[str, AfterValidator(_address)] = ""
    """Address that the mail is from; empty means jobdeck at this host."""
    to: Addresses = []
    """Who gets the mail of runs with notify whose job and team name nobody."""
    teams: dict[Slug, list[Annotated[str, AfterValidator(_address)]]] = {}
    """The same by team, like acme = ["ops@example.com"]."""


class RetentionSettings(Section):
    """How long ended runs are kept after their end; "never" keeps them for good."""

    completed: Keep = _KEPT.completed
    """Runs that went well."""
    failed: Keep = _KEPT.failed
    """Runs that were given up by decision, or had one attempt."""
    dead: Keep = _KEPT.dead
    """Runs whose attempts are used up."""
    cancelled: Keep = _KEPT.cancelled
    """Runs that somebody has ended."""
    expired: Keep = _KEPT.expired
    """Runs that did not begin in time."""

    @property
    def policy(self) -> Retention:
        """As the store takes it."""
        return Retention(self.completed, self.failed, self.dead, self.cancelled, self.expired)


class ConsoleSettings(Section):
    """The terminal console."""

    poll: Interval = _seconds(1)
    """Longest time between looks at the database."""
    theme: Annotated[str, Field(max_length=64)] = ""
    """Name of the colour theme; empty means the default."""


class Settings(BaseSettings):
    """The settings of one process, validated. `load_settings` makes it; the constructor reads nothing."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="JOBDECK_",
        env_nested_delimiter="__",
        validate_default=False,
    )

    database_url: Annotated[str, AfterValidator(_checked_url), Field(repr=False)] = ""
    """postgresql://USER@HOST/NAME or a SQLite file; empty means the embedded SQLite file."""
    team: Slug = limits.DEFAULT_TEAM
    """Team whose runs are shown and made."""
    project: SlugOrNone = limits.DEFAULT_PROJECT
    """Project of new runs; empty means none."""
    actor: Annotated[str, Field(max_length=limits.TAG_CHARS)] = ""
    """Name under which you act; empty means the name of the OS user."""
    handlers: Modules = []
    """Modules whose handlers are offered, beside those of installed packages."""
    data_dir: Folder | None = None
    """Folder for the embedded database, project data and logs; unset means the XDG data folder."""
    runner: RunnerSettings = RunnerSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    command: CommandSettings = CommandSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    secrets: SecretsSettings = SecretsSettings()
    smtp: SmtpSettings = SmtpSettings()
    retention: RetentionSettings = RetentionSettings()
    console: ConsoleSettings = ConsoleSettings()
    targets: Annotated[dict[TargetName, Annotated[str, Field(min_length=1)]], Field(repr=False)] = {}
    """Databases that handlers may write to, by name."""
    plugin: Annotated[dict[str, dict[str, Any]], Field(repr=False)] = {}
    """Settings for handlers, by job type; a handler reads them as ctx.settings."""

    _config_file: Path | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller gives: `load_settings` merges the sources, so that errors can name theirs."""
        return (init_settings,)

    @property
    def config_file(self) -> Path | None:
        """The file these settings were read from, if any."""
        return self._config_file

    @property
    def resolved_data_dir(self) -> Path:
        """The data folder, absolute. It may not exist yet; see `make_data_dir`."""
        return self.data_dir or folders.data_home()

    def make_data_dir(self) -> Path:
        """The data folder, made with mode 0700 if it is missing. Raises ConfigError."""
        return _made(self.resolved_data_dir)

    @property
    def resolved_database_url(self) -> str:
        """`postgresql+asyncpg://…` or `sqlite:///` and an absolute path."""
        return self.database_url or urls.sqlite_url(self._embedded_file)

    @property
    def shown_database_url(self) -> str:
        """The database for people: without its password."""
        return urls.shown(self.resolved_database_url)

    @property
    def database_file(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        return urls.sqlite_path(self.resolved_database_url)

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the user's default file, which upgrades itself and brings a worker."""
        return self.database_file == self._embedded_file

    @property
    def resolved_actor(self) -> str:
        """Who acts: the setting, else the OS user."""
        return self.actor or folders.os_user()

    @property
    def commands_enabled(self) -> bool:
        """Whether the `command` job type may run here."""
        return self.is_embedded if self.command.enabled is None else self.command.enabled

    @property
    def secrets_file(self) -> Path | None:
        """The file of secrets: the one that is named, else the usual one where it exists."""
        usual = folders.config_home() / _SECRETS_FILE
        return self.secrets.file or (usual if usual.exists() else None)

    def project_data_file(self, team: str, project: str | None) -> Path:
        """The SQLite file for the data of one project; its folder is made (0700). Raises ConfigError.

        Without a project it is the file of the team itself.
        """
        for slug in (team, project) if project else (team,):
            if not re.fullmatch(limits.SLUG_PATTERN, slug):
                raise ConfigError(f"{slug[:80]!r} is not a team or project name, so it has no data file")
        folder = _made(_made(self.make_data_dir() / "projects") / team)
        return folder / f"{project or _NO_PROJECT}.db"

    def project_files_folder(self, team: str, project: str | None) -> Path:
        """The folder for the files that a project's runs write and read, beside its data file. It may not exist yet."""
        return self.project_data_file(team, project).with_suffix("")

    @property
    def _embedded_file(self) -> Path:
        return self.resolved_data_dir / _EMBEDDED_FILE


def _made(folder: Path) -> Path:
    try:
        return folders.make_private(folder)
    except OSError as error:
        raise ConfigError(f"data folder {folder} cannot be made: {error.strerror}; set data_dir") from None
