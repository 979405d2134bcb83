"""Where secrets come from, in which order, and which team may use which."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from jobdeck.errors import Forbidden, NotFound
from jobdeck.secret import SecretNotFound, SecretNotGranted, redact, redaction, sources
from jobdeck.secret.errors import SourceTrouble
from jobdeck.secret.file import SecretsFile
from jobdeck.secret.vault import ConfiguredUrls, Listed, Vault, open_vault

MASK = "********"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret and no provider of this machine; nothing known yet."""
    for variable in [name for name in os.environ if name.startswith("JOBDECK_SECRET_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(sources, "entry_points", lambda **_: ())
    monkeypatch.setattr(redaction, "_known", redaction.NOTHING)


def file_of(text: str, folder: Path, mode: int = 0o600) -> Path:
    path = folder / "secrets.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def opened(
    file: Path | None = None, grants: dict[str, list[str]] | None = None, *, server: bool = False
) -> Vault:
    return open_vault(file, grants or {}, open_to_all=not server)


def found(vault: Vault, name: str, team: str = "acme") -> tuple[str, str]:
    return tuple(vault.find(name, team))  # type: ignore[return-value]


def provide(monkeypatch: pytest.MonkeyPatch, **objects: Any) -> None:
    """Entry points of the group of providers, which give these objects."""

    class Point:
        def __init__(self, name: str, value: Any) -> None:
            self.name, self.value, self._given = name, f"somewhere:{name}", value

        def load(self) -> Any:
            if isinstance(self._given, BaseException):
                raise self._given
            return self._given

    points = [Point(name, given) for name, given in objects.items()]
    monkeypatch.setattr(
        sources, "entry_points", lambda *, group: points if group == "jobdeck.secrets" else ()
    )


def test_the_sources_are_asked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, then the file, then providers; in the file a team's own table before what is for all."""
    file = file_of('A = "file"\nB = "file"\n[team.acme]\nB = "acme"\nC = "acme"\n', tmp_path)
    monkeypatch.setenv("JOBDECK_SECRET_A", "environment")
    provide(monkeypatch, keyring=lambda team, name: f"{team}/{name}")
    vault = opened(file)
    assert found(vault, "A") == ("environment", "environment")
    assert found(vault, "B") == ("acme", str(file))
    assert found(vault, "B", "other") == ("file", str(file))
    assert found(vault, "C") == ("acme", str(file))
    assert found(vault, "C", "other") == ("other/C", "provider keyring")


def test_on_a_server_a_shared_secret_needs_a_grant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment and the top of the file; what is a team's own needs none."""
    file = file_of('B = "b"\n[team.acme]\nC = "c"\n', tmp_path)
    monkeypatch.setenv("JOBDECK_SECRET_A", "a")
    monkeypatch.setenv("JOBDECK_SECRET_D", "d")
    vault = opened(file, {"A": ["acme"], "b": ["acme", "ops"], "D": ["*"]}, server=True)
    assert [found(vault, name)[0] for name in "ABCD"] == ["a", "b", "c", "d"]
    for name, team in (("A", "ops"), ("C", "ops"), ("A", "acm"), ("A", "*")):
        with pytest.raises(SecretNotGranted, match=f"secret://{name} is not granted to the team") as caught:
            vault.find(name, team)
        assert isinstance(caught.value, Forbidden | LookupError)
        assert caught.value.exit_code == 6
    assert found(vault, "B", "ops")[0] == "b"


def test_nobody_learns_which_secrets_of_others_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not granted is refused in the same words, whether it is there or not."""
    monkeypatch.setenv("JOBDECK_SECRET_THERE", "x")
    vault = opened(server=True)
    words = []
    for name in ("THERE", "NOT_THERE"):
        with pytest.raises(SecretNotGranted) as caught:
            vault.find(name, "acme")
        words.append(caught.value.message.replace(name, "NAME"))
    assert words[0] == words[1]


def test_on_the_embedded_database_a_grant_restricts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every team may use what no grant names, and only the named ones what one does."""
    monkeypatch.setenv("JOBDECK_SECRET_A", "a")
    monkeypatch.setenv("JOBDECK_SECRET_B", "b")
    vault = opened(grants={"A": ["ops"]})
    assert found(vault, "B")[0] == "b"
    with pytest.raises(SecretNotGranted):
        vault.find("A", "acme")


def test_what_is_nowhere_names_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads where it could be put."""
    assert_not_found(opened(), "JOBDECK_SECRET_X is not set where this worker runs")
    file = file_of("", tmp_path)
    provide(monkeypatch, keyring=lambda _team, _name: None)
    words = f"JOBDECK_SECRET_X is not set where this worker runs, and X is not in {file}, provider keyring"
    assert_not_found(opened(file), words)


def assert_not_found(vault: Vault, words: str) -> None:
    with pytest.raises(SecretNotFound) as caught:
        vault.find("X", "acme")
    assert isinstance(caught.value, NotFound | LookupError)
    assert caught.value.message == words


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o602, 0o666, 0o601])
def test_a_file_that_others_can_read_or_write_is_refused(mode: int, tmp_path: Path) -> None:
    """With the command that mends it; nothing of it is used, and the other sources go on."""
    file = file_of('A = "hunter2"', tmp_path, mode)
    ((source, trouble),) = opened(file).troubles()
    assert isinstance(source, SecretsFile)
    assert (trouble.reason, trouble.mend) == (
        f"{file} can be read or written by others; it is not read",
        f"chmod 600 {file}",
    )
    with pytest.raises(SecretNotFound, match="it is not read"):
        opened(file).find("A", "acme")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(mode: int, tmp_path: Path) -> None:
    """Its owner may also not be allowed to write it."""
    assert found(opened(file_of('A = "a"', tmp_path, mode)), "A")[0] == "a"


def test_files_of_other_users_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs, a link of ours to theirs, and a link of theirs to ours; root's are as good as ours."""
    file, link = file_of('A = "a"', tmp_path), tmp_path / "link.toml"
    link.symlink_to(file)
    us, real = os.getuid(), (os.fstat, os.lstat)
    theirs = "belongs to another user (uid 777)"
    for path, of_file, of_link, words in (
        (file, us, us, None),
        (file, 0, us, None),
        (file, 777, us, theirs),
        (link, us, us, None),
        (link, 777, us, theirs),
        (link, us, 777, f"is a link that {theirs}"),
    ):
        monkeypatch.setattr(os, "fstat", _owned(real[0], of_file))
        monkeypatch.setattr(os, "lstat", _owned(real[1], of_link))
        reason = _trouble(path)
        assert reason is None if words is None else words in (reason or ""), (path, of_file, of_link)


def _owned(real: Any, owner: int) -> Any:
    return lambda *given: os.stat_result((*(facts := real(*given))[:4], owner, *facts[5:]))


def _trouble(path: Path) -> str | None:
    try:
        SecretsFile(path).check()
    except SourceTrouble as trouble:
        return trouble.reason
    return None


def test_a_file_where_anyone_can_replace_it_is_refused(tmp_path: Path) -> None:
    """Replacing a file needs only its folder; the sticky bit stops that."""
    folder = tmp_path / "open"
    folder.mkdir()
    file = file_of('A = "a"', folder)
    folder.chmod(0o777)
    with pytest.raises(SourceTrouble, match="anyone can replace it"):
        SecretsFile(file).check()
    folder.chmod(0o1777)
    SecretsFile(file).check()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to, nothing at all: each at once."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in (("pipe", "is not a file"), ("none", "No such file"), (".", "Is a directory")):
        with pytest.raises(SourceTrouble, match=words):
            SecretsFile(tmp_path / name).check()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('A = "hunter2', "is not valid TOML (at "),
        ("A = 5", 'A is not text; write A = "value"'),
        ('"a-b" = "hunter2"', "a-b is no name of a secret"),
        ('a = "hunter2"\nA = "x"', "A is given twice"),
        ('team = "hunter2"', "in a table [team.SLUG]"),
        ('[team]\nacme = "hunter2"', "in a table [team.SLUG]"),
        ("[team.acme]\nA = [1]", "team.acme.A is not text"),
        ('[other]\nA = "hunter2"', "other is not text"),
        ('A = "' + "x" * 1024 * 1024 + '"', "has more than 1,048,576 bytes"),
    ],
)
def test_a_wrong_file_says_where_and_not_what(text: str, words: str, tmp_path: Path) -> None:
    """The place and the reason; never what stands there, which may be a secret."""
    with pytest.raises(SourceTrouble) as caught:
        SecretsFile(file_of(text, tmp_path)).check()
    assert words in caught.value.reason
    assert "hunter2" not in caught.value.reason


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A value may be rotated while workers run; also when an editor puts a new file in its place."""
    file = file_of('A = "one"', tmp_path)
    vault = opened(file)
    assert found(vault, "A")[0] == "one"
    (tmp_path / "new").mkdir()
    file_of('A = "two"', tmp_path / "new").rename(file)
    assert found(vault, "A")[0] == "two"
    assert vault.for_team("acme")("A") == "two"


def test_one_attempt_sees_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is asked once an attempt, however often the handler looks."""
    asked: list[tuple[str, str]] = []

    def get(team: str, name: str) -> str:
        asked.append((team, name))
        return "v"

    provide(monkeypatch, keyring=get)
    look_up = opened(server=True).for_team("acme")
    assert [look_up("A"), look_up("A"), look_up("B")] == ["v", "v", "v"]
    assert asked == [("acme", "A"), ("acme", "B")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ImportError("no module keyring"), "provider p cannot be loaded: ImportError: no module keyring"),
        (SystemExit(3), "provider p cannot be loaded: SystemExit: 3"),
        ("text", "provider p cannot be loaded: TypeError: somewhere:p is a str, not a callable"),
    ],
)
def test_a_provider_that_cannot_be_loaded(given: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so when it is looked at, and to runs that find their secret nowhere else."""
    provide(monkeypatch, p=given)
    monkeypatch.setenv("JOBDECK_SECRET_A", "a")
    vault = opened()
    ((_, trouble),) = vault.troubles()
    assert trouble.reason.startswith(words)
    assert found(vault, "A")[0] == "a"
    with pytest.raises(SecretNotFound, match="cannot be loaded"):
        vault.find("X", "acme")


@pytest.mark.parametrize(
    ("answer", "words"),
    [(OSError("locked"), "provider p: OSError: locked"), (7, "provider p gave a int instead of text")],
)
def test_a_provider_that_fails(answer: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not found, with the reason: it may work the next time, on a server too, so the run is tried again."""

    def get(_team: str, _name: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    provide(monkeypatch, p=get)
    with pytest.raises(SecretNotFound, match=words):
        opened(server=True).find("A", "acme")


def test_providers_are_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, loaded by name."""
    point = EntryPoint("paths", "os.path:join", "jobdeck.secrets")
    monkeypatch.setattr(sources, "entry_points", lambda *, group: [point] if group == point.group else [])
    assert found(opened(), "A") == ("acme/A", "provider paths")


def test_the_list_has_names_and_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source's names with the teams that may use them, and what is granted and not there."""
    file = file_of('B = "bbbbbbbb"\n[team.ops]\nC = "cccccccc"\n', tmp_path)
    monkeypatch.setenv("JOBDECK_SECRET_A", "aaaaaaaa")
    vault = opened(file, {"A": ["acme"], "MISSING": ["*"]}, server=True)
    assert vault.listed() == [
        Listed("A", "environment", ("acme",)),
        Listed("B", str(file), ()),
        Listed("C", str(file), ("ops",)),
        Listed("MISSING", None, ("*",)),
    ]
    assert {each.teams for each in opened(file).listed() if each.name == "B"} == {("*",)}


def test_what_is_listed_is_masked_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler may print its whole environment; short values would mask too much that nobody asked for."""
    file = file_of('B = "bbbbbbbb"\n[team.ops]\nC = "cccccccc"\n', tmp_path)
    monkeypatch.setenv("JOBDECK_SECRET_A", "aaaaaaaa")
    monkeypatch.setenv("JOBDECK_SECRET_D", "short")
    opened(file, server=True).mask_all()
    assert redact("aaaaaaaa bbbbbbbb cccccccc short") == f"{MASK} {MASK} {MASK} short"


def test_urls_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference in `[targets]` is the operator's: it needs no grant, and is looked up when it is used."""
    monkeypatch.setenv("JOBDECK_SECRET_URL", "postgresql://h/whole")
    monkeypatch.setenv("JOBDECK_SECRET_PW", "p@ss/word")
    texts = {
        "a": "secret://URL",
        "b": "postgresql://me:secret://PW@h/b",
        "c": "sqlite:////c.db",
        "d": "secret://NONE",
    }
    urls = ConfiguredUrls(texts, opened(server=True).for_configuration("acme"))
    assert (urls["a"], urls["b"], urls["c"]) == (
        "postgresql://h/whole",
        "postgresql://me:p%40ss%2Fword@h/b",
        "sqlite:////c.db",
    )
    assert (sorted(urls), "d" in urls, "e" in urls) == (["a", "b", "c", "d"], True, False)
    with pytest.raises(SecretNotFound):
        urls["d"]
    assert "p@ss" not in repr(urls)
    assert redact("p@ss/word p%40ss%2Fword") == f"{MASK} {MASK}"
