"""The documents say what the code says."""

from pathlib import Path

import pytest

from jobdeck import limits
from jobdeck.errors import JobdeckError
from jobdeck.states import GROUPS, Label, Status

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
README = (ROOT / "README.md").read_text()


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
        f"| {limits.ENQUEUE_BATCH:,} |",
        f"{limits.QUEUE_CHARS} characters",
        f"{limits.SLUG_CHARS} characters",
    ],
)
def test_the_table_of_limits_is_the_one_in_the_code(written: str) -> None:
    """A limit cannot change without the document."""
    assert written in REFERENCE


def test_links_of_the_readme_lead_somewhere() -> None:
    """Every relative link and picture exists."""
    targets = [part.partition(")")[0] for part in README.split("](")[1:]]
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []
