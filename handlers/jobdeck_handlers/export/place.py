"""Where the file goes: written beside its place under a hidden name, and put there in one step when it is whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from jobdeck import Discard
from jobdeck_handlers.export.sink import Sink, mark_of

_PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one attempt's file in the project's own folder."""

    folder: Path
    name: str
    run_id: UUID
    fence: int
    overwrite: bool

    @property
    def file(self) -> Path:
        return self.folder / self.name

    @property
    def part(self) -> Path:
        """What is written to. Names in params never begin with a dot."""
        return self.folder / f"{self._prefix}{self.fence}{_PART}"

    @property
    def _prefix(self) -> str:
        return f".jobdeck-{self.run_id.hex}-"

    def sweep_earlier(self) -> None:
        """Remove what attempts of the run that died have left."""
        for left in self.folder.glob(f"{self._prefix}*{_PART}"):
            fence = left.name.removeprefix(self._prefix).removesuffix(_PART)
            if fence.isdecimal() and int(fence) < self.fence:
                left.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Make the folder (0700). Raises Discard where the file is there and may not be replaced."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Discard(f"the folder for files cannot be made: {error.strerror}") from None
        if not self.overwrite and os.path.lexists(self.file):
            raise self._taken()

    def published(self, saved: Any) -> Any:
        """What an earlier attempt has saved as the result, if the file that it was saved for is in its place."""
        if not isinstance(saved, dict):
            return None
        try:
            found = (self.folder / str(saved["result"]["path"])).lstat()
        except (OSError, LookupError, TypeError):
            return None
        return saved["result"] if mark_of(found) == saved.get("mark") else None

    def open(self, max_bytes: int) -> Sink:
        """The file to write to, new and for its owner alone."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return Sink(os.open(self.part, flags, 0o600), max_bytes)

    def publish(self) -> None:
        """Put the written file in its place. Raises Discard where another one has come there meanwhile."""
        if self.overwrite:
            self.part.replace(self.file)
        else:
            # Unlike a rename this never replaces a file.
            try:
                self.file.hardlink_to(self.part)
            except FileExistsError:
                raise self._taken() from None
            self.part.unlink()
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def sweep(self) -> None:
        """Remove what has been written so far, if it is still there."""
        with suppress(OSError):
            self.part.unlink()

    def _taken(self) -> Discard:
        return Discard(f"{self.name} is there already; give another file name, or overwrite")
