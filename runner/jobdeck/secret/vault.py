"""All the secrets of a worker, and which team may use which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from jobdeck.secret.errors import SecretNotFound, SecretNotGranted, SourceTrouble
from jobdeck.secret.file import SecretsFile
from jobdeck.secret.forms import LONG
from jobdeck.secret.names import SCHEME
from jobdeck.secret.redaction import remember
from jobdeck.secret.reference import REFERENCE, Lookup, resolve, variable_of
from jobdeck.secret.sources import Environment, Source, providers

ALL_TEAMS: Final = "*"
# The password of a URL: `postgresql://user:secret://NAME@host/name`.
_PASSWORD: Final = re.compile(rf"(?<=:){REFERENCE.pattern}(?=@)")


class Found(NamedTuple):
    """A value and the label of its source."""

    value: str
    source: str


class Listed(NamedTuple):
    """A name that a source holds, or that is granted and held by none (`source` None)."""

    name: str
    source: str | None
    teams: tuple[str, ...]
    """Slugs; `*` for all of them."""


@dataclass(frozen=True, slots=True)
class Vault:
    """Sources in the order in which they are asked, and grants by upper-case name."""

    sources: Sequence[Source] = field(default_factory=lambda: (Environment(),))
    grants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    open_to_all: bool = True
    """Whether a secret without a grant is for every team; with one it is for the named teams alone."""

    def for_team(self, team: str) -> Lookup:
        """The lookup of one attempt: what it has found once it keeps."""
        found: dict[str, str] = {}

        def look_up(name: str) -> str:
            if name not in found:
                found[name] = self.find(name, team).value
            return found[name]

        return look_up

    def for_configuration(self, team: str) -> Lookup:
        """The lookup for references that the configuration itself makes, on behalf of a team: they need no grant."""
        return lambda name: self._find(name, team, shared=True).value

    def find(self, name: str, team: str) -> Found:
        """Raises SecretNotFound, and SecretNotGranted for a shared secret whether it exists or not."""
        return self._find(name, team, shared=self.grants_to(name, team))

    def _find(self, name: str, team: str, *, shared: bool) -> Found:
        troubles: list[str] = []
        for source in self.sources:
            try:
                value = source.own(team, name)
                if value is None and shared:
                    value = source.shared(name)
            except SourceTrouble as trouble:
                troubles.append(trouble.reason)
                continue
            if value is not None:
                return Found(value, source.label)
        if not shared and not troubles:
            raise SecretNotGranted(
                f"{SCHEME}{name} is not granted to the team {team}; "
                "name the team under [secrets.teams] in the worker's configuration"
            )
        raise SecretNotFound(self._not_found(name, troubles))

    def _not_found(self, name: str, troubles: Sequence[str]) -> str:
        others = [source.label for source in self.sources if not isinstance(source, Environment)]
        nor = f", and {name} is not in {', '.join(others)}" if others else ""
        return "; ".join([f"{variable_of(name)} is not set where this worker runs{nor}", *troubles])

    def grants_to(self, name: str, team: str) -> bool:
        """Whether the team may use what is shared under this name."""
        teams = self._teams_of(name)
        return ALL_TEAMS in teams or team in teams

    def _teams_of(self, name: str) -> Sequence[str]:
        return self.grants.get(name, (ALL_TEAMS,) if self.open_to_all else ())

    def troubles(self) -> Iterator[tuple[Source, SourceTrouble]]:
        """The sources that cannot be asked."""
        for source in self.sources:
            try:
                source.check()
            except SourceTrouble as trouble:
                yield source, trouble

    def listed(self) -> list[Listed]:
        """Names, never values. Providers only answer questions, so theirs are missing."""
        found = [
            Listed(name, source.label, (team,) if team else tuple(self._teams_of(name)))
            for source in self._sound()
            for name, team in source.names()
        ]
        held = {each.name for each in found}
        found += [Listed(name, None, tuple(teams)) for name, teams in self.grants.items() if name not in held]
        return sorted(found, key=lambda each: each.name)

    def mask_all(self) -> None:
        """Mask what can be listed before anybody has asked for it: a handler may print its whole environment."""
        for source in self._sound():
            for name, team in source.names():
                value = source.own(team, name) if team else source.shared(name)
                if value is not None and len(value) >= LONG:
                    remember(value, f"{SCHEME}{name}")

    def _sound(self) -> Iterator[Source]:
        broken = [source for source, _ in self.troubles()]
        return (source for source in self.sources if source not in broken)


def open_vault(file: Path | None, grants: Mapping[str, Sequence[str]], *, open_to_all: bool) -> Vault:
    """The environment, then the file where there is one, then the providers of installed packages."""
    files = [] if file is None else [SecretsFile(file)]
    upper = {name.upper(): teams for name, teams in grants.items()}
    return Vault((Environment(), *files, *providers()), upper, open_to_all)


class ConfiguredUrls(Mapping[str, str]):
    """URLs of the configuration. References in them, whole or as the password, are looked up when one is asked for.

    Asking for one raises SecretNotFound.
    """

    def __init__(self, urls: Mapping[str, str], look_up: Lookup) -> None:
        self._urls = urls
        self._look_up = look_up

    def __getitem__(self, name: str) -> str:
        url = self._urls[name]
        if REFERENCE.fullmatch(url):
            return resolve(url, self._look_up)
        return _PASSWORD.sub(lambda found: quote(resolve(found[0], self._look_up), safe=""), url)

    def __contains__(self, name: object) -> bool:
        return name in self._urls

    def __iter__(self) -> Iterator[str]:
        return iter(self._urls)

    def __len__(self) -> int:
        return len(self._urls)
