"""The documents say what the code says."""

import re
import tomllib
from pathlib import Path

import pytest

from jobdeck import doctor, limits
from jobdeck.cli import keeper
from jobdeck.definition import JobDefinition, SchedulePart
from jobdeck.errors import JobdeckError
from jobdeck.settings.keys import unknown_in
from jobdeck.settings.model import DatabaseSettings
from jobdeck.states import GROUPS, Label, Status
from jobdeck.store.postgres import database as postgres
from tests.architecture.commands import commands_in, is_known, problem_of, variables_in

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
SCALING = (ROOT / "docs" / "scaling.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("word", [*Status, *Label, *GROUPS])
def test_every_status_label_and_group_is_explained(word: str) -> None:
    """No word can appear in a list that the reference does not explain."""
    assert f"`{word}`" in REFERENCE


def test_every_exit_code_is_explained() -> None:
    """Each exit code an error can lead to has a row."""

    def codes(kind: type[JobdeckError]) -> set[int]:
        return {kind.exit_code}.union(*(codes(sub) for sub in kind.__subclasses__()))

    missing = {code for code in codes(JobdeckError) if f"| {code} |" not in REFERENCE}
    assert missing == set()


@pytest.mark.parametrize(
    "written",
    [
        f"{limits.PARAMS_BYTES:,} bytes",
        f"{limits.METADATA_BYTES:,} bytes",
        f"{limits.ERROR_BYTES:,} bytes",
        f"{limits.TAGS} of {limits.TAG_CHARS} characters",
        f"{limits.LOG_RUN_BYTES // limits.MIB} MiB",
        f"depth {limits.JSON_DEPTH}, {limits.JSON_NODES:,} values",
        f"{limits.NAME_CHARS}, {limits.MESSAGE_CHARS}, {limits.REASON_CHARS}, {limits.FILTER_CHARS} characters",
        f"| {limits.PRIORITY_MIN}-{limits.PRIORITY_MAX}, lower goes first | {limits.PRIORITY_DEFAULT} |",
        f"| {limits.MAX_ATTEMPTS_MIN}-{limits.MAX_ATTEMPTS_MAX} | {limits.MAX_ATTEMPTS_DEFAULT} |",
        f"{limits.TIMEOUT_MAX:,} s",
        f"base {limits.BACKOFF_BASE:.0f} s, factor {limits.BACKOFF_FACTOR:.0f}, cap 1 h",
        f"{limits.CANCEL_GRACE:.0f} s, {limits.SHUTDOWN_GRACE:.0f} s",
        f"| requests of one worker to one host at the same time | 1-1,000 | {limits.HTTP_PER_HOST} |",
        f"| 1-{limits.PAGE_MAX} | {limits.PAGE_DEFAULT} |",
        f"| {limits.PAGE_LOOKS:,}, or {limits.PAGE_LOOKS_SCATTERED} of one type or status |",
        f"| {limits.ENQUEUE_BATCH:,} |",
        f"| 1-{limits.PROCESSES_MAX} | 1 |",
        f"| idempotency key, dedupe key | {limits.KEY_CHARS} characters | |",
        f"| runs that one run waits for | {limits.AFTER_RUNS} | |",
        f"| jobs that one job starts after | {limits.DEPENDENCIES} | |",
        f"| generations of child runs | {limits.LINEAGE_MAX} | |",
        f"at most {limits.TTL_MAX // 86_400} d | none |",
        f"{limits.QUEUE_CHARS} characters",
        f"{limits.SLUG_CHARS} characters",
        f"| runs of one bulk operation | {limits.BULK_RUNS:,} | |",
        f"| jobs in one batch | {limits.DEFINITION_BATCH} | |",
        f"| notifiers of a job, addresses of one | {limits.NOTIFIERS}, {limits.ADDRESSES} | |",
        f"| URL of a callback or webhook | {limits.URL_CHARS:,} characters | |",
        f"| result in a callback | {limits.TOLD_RESULT_BYTES:,} bytes, else left out | |",
        f"| tries of a notification | {limits.DELIVERY_TRIES}, over about a day | |",
    ],
)
def test_the_table_of_limits_is_the_one_in_the_code(written: str) -> None:
    """A limit cannot change without the document."""
    assert written in REFERENCE


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link and picture exists."""
    targets = [part.partition(")")[0] for part in path.read_text().split("](")[1:]]
    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_every_command_named_exists(path: Path) -> None:
    """Commands and options in code spans and console lines are those of the command line."""
    wrong = {line: problem for line in commands_in(path.read_text()) if (problem := problem_of(line))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("jobdeck runner --proceses 4", "no option --proceses"),
        ("jobdeck workers revive", "no command 'revive'"),
        ("jobdeck runs list --status running --json", None),
        ("jobdeck --version", None),
    ],
)
def test_a_wrong_command_would_be_seen(line: str, problem: str | None) -> None:
    """What is looked for in the documents can be found."""
    assert problem_of(line) == problem


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_every_setting_named_exists(path: Path) -> None:
    """Variables, and what stands in blocks of configuration."""
    text = path.read_text()
    assert [name for name in variables_in(text) if not is_known(name)] == []
    blocks = [
        block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[project." not in block
    ]
    assert [found for block in blocks if (found := unknown_in(tomllib.loads(block)))] == []


@pytest.mark.parametrize(
    "written",
    [
        f"`pool_size + {postgres._LANES + 2}` connections",
        f"at most {limits.PROCESSES_MAX}",
        f"a lease of {limits.LEASE:.0f} s",
        f"and at most a third more: {limits.LEASE * 4 / 3:.0f} s",
        f"ends that after {DatabaseSettings().command_timeout.total_seconds():.0f} s",
        f"`runner.shutdown_grace` ({limits.SHUTDOWN_GRACE:.0f} s)",
        f"`runner.cancel_notice` ({limits.CANCEL_NOTICE:.0f} s)",
        f"after {keeper._PAUSE_FIRST:.0f} s, then",
        f"up to {keeper._PAUSE_MAX:.0f} s",
        f"from {doctor._SKEW_WARN:.0f} s of difference",
    ],
)
def test_the_times_of_a_fleet_are_those_in_the_code(written: str) -> None:
    """None of them can change without the page on scaling."""
    assert written in " ".join(SCALING.split())


def test_every_field_of_a_definition_is_explained() -> None:
    """The page on jobs has a row for each."""
    page = (ROOT / "docs" / "jobs.md").read_text()
    names = [*JobDefinition.model_fields, *SchedulePart.model_fields]
    assert [name for name in names if f"`{name}`" not in page] == []
    assert f"| 1-{limits.CATCH_UP_MAX:,} | {limits.CATCH_UP} |" in page
    assert f"| {limits.MISFIRE_GRACE:.0f} s |" in page
