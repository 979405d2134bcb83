"""`export`: the file is there whole or not at all, where it belongs, whatever happens to its worker."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobdeck import Discard, Retry, StaleLease, ValidationError
from jobdeck_handlers.export import export
from jobdeck_handlers.export.place import Place
from tests.handlers.context import OTHER_RUN, RUN
from tests.handlers.dying_export import FILE, QUERY
from tests.handlers.exporting import Exports, numbers

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "..",
        "a..b",
        ".hidden",
        "",
        " x",
        "a\nb",
        "a\0b",
        "x" * 201,
        "ä" * 130,
        "{team}",
        "{date",
        "{0}",
        "{}",
        "{date.year}",
    ],
)
@pytest.mark.usefixtures("database_kind")
def test_names_that_lead_elsewhere(name: str) -> None:
    """No name leaves the folder, hides or cannot be one; each is refused when the run is asked for."""
    with pytest.raises(ValidationError, match="file"):
        export.parse({"query": "SELECT 1", "file": name})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", "a.csv"),
        ("a.csv", "a.csv"),
        ("Größe 1", "Größe 1.csv"),
        ("x" * 200, "x" * 200 + ".csv"),
        ("a.b", "a.b.csv"),
    ],
)
async def test_names(exports: Exports, name: str, path: str) -> None:
    """The ending is added where it is missing."""
    assert (await exports.run(QUERY, file=name))["path"] == path
    assert exports.names == [path]


async def test_the_folder_and_the_file_are_private(exports: Exports) -> None:
    """Only their owner can read them, whatever the umask."""
    umask = os.umask(0)
    try:
        result = await exports.run(QUERY)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(exports.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((exports.folder / result["path"]).stat().st_mode) == 0o600


async def test_an_existing_file(exports: Exports) -> None:
    """It stays, unless it may be replaced; then a link is replaced and not followed."""
    exports.folder.mkdir()
    other = exports.folder.parent / "other"
    other.write_text("precious")
    (exports.folder / "report.csv").symlink_to(other)
    ctx = exports.attempt()
    with pytest.raises(Discard, match=r"report\.csv is there already"):
        await exports.run("SELECT no_such_column", ctx, file=FILE)
    await exports.run(QUERY, file=FILE, overwrite=True)
    assert other.read_text() == "precious"
    assert (exports.folder / "report.csv").read_text() == "n\n1\n"
    assert exports.names == ["report.csv"]


async def test_a_file_that_comes_meanwhile(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs with one name the second to finish fails; the first one's file stays."""
    original = Place.publish

    def publish(place: Place) -> None:
        place.file.write_text("another one's")
        original(place)

    monkeypatch.setattr(Place, "publish", publish)
    with pytest.raises(Discard, match="is there already"):
        await exports.run(QUERY, file=FILE)
    assert exports.names == ["report.csv"]
    assert (exports.folder / "report.csv").read_text() == "another one's"


async def test_a_run_that_another_worker_has(exports: Exports) -> None:
    """A worker that was frozen past its lease publishes nothing."""
    with pytest.raises(StaleLease):
        await exports.run(QUERY, exports.attempt(lost=True), file=FILE)
    assert exports.names == []


def die_at(call: str, exports: Exports, saved: Path) -> None:
    """An attempt in a process of its own, which is killed when it makes the system call."""
    command = [sys.executable, "-m", "tests.handlers.dying_export", exports.url, str(exports.folder), call]
    died = subprocess.run([*command, str(saved)], check=False, cwd=ROOT, capture_output=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr


@pytest.mark.parametrize(("call", "left"), [("fsync", 1), ("link", 1), ("replace", 1), ("unlink", 2)])
async def test_a_worker_that_dies_while_it_publishes(
    exports: Exports, tmp_path: Path, call: str, left: int
) -> None:
    """Killed before the file is in its place: nothing has its name. After: it is whole. The next attempt ends it."""
    saved = tmp_path / "saved.json"
    die_at(call, exports, saved)
    assert len(exports.names) == left
    assert ("report.csv" in exports.names) == (call == "unlink")
    resume = json.loads(saved.read_text()) if saved.exists() else None
    before = (exports.folder / "report.csv").stat().st_ino if call == "unlink" else None
    ctx = exports.attempt(fence=2, resume=resume)
    result = await exports.run(QUERY, ctx, file=FILE)
    assert exports.names == ["report.csv"]
    assert exports.read(result) == b"n\r\n1\r\n"
    assert before in (None, (exports.folder / "report.csv").stat().st_ino)
    assert bool(ctx.log.with_message("an earlier attempt has made the file")) == (call == "unlink")


async def test_another_file_is_not_taken_for_its_own(exports: Exports) -> None:
    """What an earlier attempt has made counts only while it is the very file that it made."""
    first = exports.attempt()
    await exports.run(QUERY, first, file=FILE)
    (exports.folder / "report.csv").write_bytes(b"n\r\n2\r\n")
    again = exports.attempt(fence=2, resume=first.saved[0])
    with pytest.raises(Discard, match="is there already"):
        await exports.run(QUERY, again, file=FILE)
    result = await exports.run(QUERY, again, file=FILE, overwrite=True)
    assert exports.read(result) == b"n\r\n1\r\n"


async def test_what_dead_attempts_have_left(exports: Exports) -> None:
    """The next attempt of the run removes it; files of other runs, of newer attempts and of people stay."""
    exports.folder.mkdir()
    stay = {
        f".jobdeck-{OTHER_RUN.hex}-1.part",
        f".jobdeck-{RUN.hex}-9.part",
        f".jobdeck-{RUN.hex}-x.part",
        "mine",
    }
    for name in stay | {f".jobdeck-{RUN.hex}-1.part", f".jobdeck-{RUN.hex}-2.part"}:
        (exports.folder / name).touch()
    await exports.run(QUERY, exports.attempt(fence=3), file=FILE)
    assert set(exports.names) == stay | {"report.csv"}


async def test_a_query_that_fails_half_way(exports: Exports) -> None:
    """Rows that have been written already are not kept."""
    query = f"SELECT n, abs(-9223372036854775807 - (n > 3000)) AS a FROM ({numbers(exports, 5_000)}) AS q"
    for format in ("csv", "jsonl"):
        ctx = exports.attempt()
        with pytest.raises(Discard, match="integer overflow"):
            await exports.run(query, ctx, format=format)
        assert ctx.progresses
        assert exports.names == []


async def test_no_folder(exports: Exports, tmp_path: Path) -> None:
    """A worker without a folder, or with one that cannot be made, says so."""
    with pytest.raises(Discard, match="no folder for the project's files"):
        await exports.run(QUERY, exports.attempt(settings={"data_file_url": exports.url}))
    (tmp_path / "file").touch()
    settings = exports.settings | {"files_folder": str(tmp_path / "file" / "exports")}
    with pytest.raises(Discard, match="cannot be made: Not a directory"):
        await exports.run(QUERY, exports.attempt(settings=settings))


async def test_parquet_without_its_package(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to install; the other formats do not need it."""
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Discard, match=r"pip install jobdeck\[parquet\]"):
        await exports.run(QUERY, format="parquet")
    await exports.run(QUERY)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB; only root can make one."""
    folder = Path(tempfile.mkdtemp(prefix="jobdeck-disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    try:
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("a small disk can only be mounted by root")
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
async def test_a_full_disk(exports: Exports, small_disk: Path, format: str) -> None:
    """The attempt fails with the reason and gives the space back; with more room the next one succeeds."""
    exports.folder = small_disk
    params: dict[str, Any] = {"format": format, "file": FILE}
    blobs = f"SELECT n, randomblob(1000) AS b FROM ({numbers(exports, 20_000)}) AS q"
    with pytest.raises(Retry, match="the disk of the project's folder is full"):
        await exports.run(blobs, **params)
    assert exports.names == []
    found = os.statvfs(small_disk)
    assert found.f_bfree == found.f_blocks
    assert (await exports.run(f"{blobs} LIMIT 100", **params))["rows"] == 100
