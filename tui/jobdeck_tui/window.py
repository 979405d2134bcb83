"""The part of a long list that the console holds: at most a few pages, addressed by the runs' own keys.

No position in the list is ever kept as a number of rows: runs arrive at the head all the time, and a cursor
that is a number would then stand on another run. Pure: no Textual, no waiting, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from jobdeck.model import Run
from jobdeck_tui.filters import FilterLine

Key = tuple[datetime, int]
"""What the list is sorted by, newest first."""


class Place(StrEnum):
    """Which page of the list is meant."""

    HEAD = "head"
    TAIL = "tail"
    OLDER = "older"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class PageWanted:
    """A page to be loaded. `anchor` is the run it continues from (OLDER, NEWER)."""

    generation: int
    place: Place
    anchor: UUID | None = None
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Look:
    """What the next look at the database has to re-read."""

    generation: int
    after: UUID | None
    """The run above the first re-read one; None: from the newest."""
    limit: int
    newest: UUID | None
    """Count what is newer than this run; None where new runs are taken in instead."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to a `Look`: the re-read stretch, the present state of rows missing from it, and what is newer."""

    look: Look
    runs: Sequence[Run]
    others: Sequence[Run]
    newer: int
    newer_more: bool


def key_of(run: Run) -> Key:
    """The place of a run in the list."""
    return (run.created_at, run.id.int)


@dataclass
class RunWindow:
    """The loaded rows, the viewport and the cursor. `linger`: how long a row that left the filter stays, dimmed."""

    limit: int = 600
    page: int = 200
    linger: timedelta = timedelta(seconds=5)
    chosen: FilterLine = field(default_factory=FilterLine)
    rows: list[Run] = field(default_factory=list)
    cursor_id: UUID | None = None
    top: int = 0
    height: int = 1
    frozen: bool = False
    loaded: bool = False
    at_head: bool = False
    at_tail: bool = False
    above: int | None = 0
    """How many rows lie above the first loaded one; None where nobody knows."""
    new: int = 0
    new_more: bool = False
    generation: int = 0
    _gone: dict[UUID, datetime] = field(default_factory=dict)
    _loading: set[Place] = field(default_factory=set)
    _cursor_to: Place | None = None

    # What is shown

    @property
    def visible(self) -> list[Run]:
        """The rows in the viewport."""
        return self.rows[self.top : self.top + self.height]

    @property
    def cursor(self) -> Run | None:
        """The run under the cursor; None where the cursor stands on nothing or has scrolled out of view."""
        return next((run for run in self.visible if run.id == self.cursor_id), None)

    @property
    def following(self) -> bool:
        """Whether new runs come in at the top by themselves."""
        return not self.frozen and self.at_head and self.top == 0

    def is_gone(self, run_id: UUID) -> bool:
        """Whether a row has left the filter and is only kept for a while."""
        return run_id in self._gone

    # Filling

    def reset(self, chosen: FilterLine) -> PageWanted:
        """Begin again under another filter; the rows stay until the first page is there."""
        self.chosen = chosen
        self.frozen = False
        return self._wanted(Place.HEAD, cursor_to=None, restart=True)

    def go_home(self) -> PageWanted:
        """To the newest run, following."""
        self.frozen = False
        return self._wanted(Place.HEAD, cursor_to=Place.HEAD, restart=True)

    def go_end(self) -> PageWanted:
        """To the oldest run."""
        return self._wanted(Place.TAIL, cursor_to=Place.TAIL, restart=True)

    def wants(self) -> PageWanted | None:
        """The page that the viewport will need soon, once."""
        # Wider, and the page loaded at one edge would make the other edge want one too, for ever.
        margin = min(max(2 * self.height, 50), (self.limit - self.page - self.height) // 2)
        if not self.loaded or not self.rows:
            return None
        if (
            not self.at_tail
            and self.top + self.height + margin > len(self.rows)
            and Place.OLDER not in self._loading
        ):
            return self._wanted(Place.OLDER)
        if not self.at_head and self.top < margin and Place.NEWER not in self._loading:
            return self._wanted(Place.NEWER)
        return None

    def _wanted(self, place: Place, *, cursor_to: Place | None = None, restart: bool = False) -> PageWanted:
        if restart:
            self.generation += 1
            self._loading.clear()
            self._cursor_to = cursor_to
        self._loading.add(place)
        edge = {Place.OLDER: -1, Place.NEWER: 0}.get(place)
        anchor = None if edge is None or not self.rows else self.rows[edge].id
        return PageWanted(self.generation, place, anchor, self.page)

    def place(self, wanted: PageWanted, runs: Sequence[Run]) -> bool:
        """Take in a page. False where it answers a question that is no longer asked."""
        if wanted.generation != self.generation:
            return False
        self._loading.discard(wanted.place)
        if wanted.place in (Place.HEAD, Place.TAIL):
            self._start(wanted, runs)
        else:
            self._extend(wanted, runs)
        self.loaded = True
        return True

    def _start(self, wanted: PageWanted, runs: Sequence[Run]) -> None:
        home, whole = wanted.place is Place.HEAD, len(runs) < wanted.limit
        self.rows = list(runs)
        self._gone.clear()
        self.at_head, self.at_tail = home or whole, not home or whole
        self.above = 0 if self.at_head else None
        self.new, self.new_more = 0, False
        self.top = 0 if home else max(len(self.rows) - self.height, 0)
        kept = self._cursor_to is None and any(run.id == self.cursor_id for run in self.rows[: self.height])
        if not kept:
            self.cursor_id = None if not self.rows else self.rows[0 if home else -1].id
        self._keep_cursor_visible()

    def _extend(self, wanted: PageWanted, runs: Sequence[Run]) -> None:
        edge = -1 if wanted.place is Place.OLDER else 0
        if not self.rows or self.rows[edge].id != wanted.anchor:
            # The rows have changed meanwhile: this page would not touch them.
            return
        whole, anchor = len(runs) < wanted.limit, self._top_key()
        known = {run.id for run in self.rows}
        fresh = [run for run in runs if run.id not in known]
        if wanted.place is Place.OLDER:
            self.rows += fresh
            self.at_tail = whole
        else:
            self.rows[:0] = fresh
            self.at_head = whole
            if self.above is not None:
                self.above = 0 if whole else max(self.above - len(fresh), 0)
            elif whole:
                self.above = 0
        self._settle(anchor, drop_newest=wanted.place is Place.OLDER)

    # Looking again

    def look(self, ahead: int = 20) -> Look:
        """What to re-read: the stretch in the viewport, with a little below it."""
        first = self.rows[self.top - 1].id if 0 < self.top <= len(self.rows) else None
        return Look(
            generation=self.generation,
            after=first,
            # Above the first loaded row of a window that does not reach the head nothing can be anchored.
            limit=0 if first is None and not self.at_head else self.height + ahead,
            newest=None if self.following or not self.rows else self.rows[0].id,
        )

    def missing(self, look: Look, runs: Sequence[Run]) -> list[UUID]:
        """Loaded rows that should be in the re-read stretch and are not, and all in the viewport that are not."""
        answered = {run.id for run in runs}
        upper = self._key_by_id(look.after)
        lower = key_of(runs[-1]) if runs and len(runs) >= look.limit else None
        ids = {run.id for run in self.visible if run.id not in answered}
        for run in self.rows:
            key = key_of(run)
            if (
                run.id not in answered
                and look.limit
                and (upper is None or key < upper)
                and (lower is None or key > lower)
            ):
                ids.add(run.id)
        return sorted(ids)[: self.page]

    def merge(self, seen: Seen, now: datetime) -> bool:
        """Take in what a look has found. False where it belongs to an older state of the window."""
        if (
            seen.look.generation != self.generation
            or not self.loaded
            or self._loading & {Place.HEAD, Place.TAIL}
        ):
            return False
        anchor, was_following = self._top_key(), self.following
        self._update((*seen.runs, *seen.others), now)
        if not self.frozen and seen.look.limit:
            self._take_in(seen, now)
        self._drop_gone(now)
        self.new, self.new_more = (0, False) if seen.look.newest is None else (seen.newer, seen.newer_more)
        self._settle(None if was_following else anchor, drop_newest=self.top > len(self.rows) // 2)
        if self.cursor_id is None and self.rows:
            self.cursor_id = self.rows[self.top].id
        return True

    def _update(self, runs: Iterable[Run], now: datetime) -> None:
        fresh = {run.id: run for run in runs}
        for index, run in enumerate(self.rows):
            current = fresh.get(run.id)
            if current is None:
                continue
            # A look may have been under way while a newer answer was taken in.
            if current.revision >= run.revision:
                self.rows[index] = current
            if self.chosen.matches_status(self.rows[index].status, self.rows[index].label):
                self._gone.pop(run.id, None)
            else:
                self._gone.setdefault(run.id, now)

    def _take_in(self, seen: Seen, now: datetime) -> None:
        runs, look = seen.runs, seen.look
        upper = self._key_by_id(look.after)
        known = {run.id for run in self.rows}
        whole = len(runs) < look.limit
        if look.after is None and not whole and not any(run.id in known for run in runs):
            # More new runs than were read: what was loaded does not touch them any more.
            self.rows, self.at_head, self.at_tail, self.above = list(runs), True, False, 0
            self._gone.clear()
            return
        oldest = key_of(self.rows[-1]) if self.rows else None
        for run in runs:
            reachable = self.at_tail or whole or oldest is None or key_of(run) > oldest
            if run.id not in known and reachable and (upper is None or key_of(run) < upper):
                self.rows.append(run)
        self.at_tail = self.at_tail or (whole and look.after is None)

    def _drop_gone(self, now: datetime) -> None:
        if self.frozen:
            return
        expired = {
            run_id
            for run_id, since in self._gone.items()
            if now - since >= self.linger and run_id != self.cursor_id
        }
        if expired:
            self.rows = [run for run in self.rows if run.id not in expired]
            self._gone = {run_id: since for run_id, since in self._gone.items() if run_id not in expired}

    def _settle(self, anchor: Key | None, *, drop_newest: bool) -> None:
        """Sort, hold the viewport where it was (`anchor` None: at the head) and let go of what is too much."""
        self.rows.sort(key=key_of, reverse=True)
        self.top = 0
        if anchor is not None:
            self.top = next((n for n, run in enumerate(self.rows) if key_of(run) <= anchor), len(self.rows))
        self.top = max(min(self.top, len(self.rows) - self.height), 0)
        extra = len(self.rows) - self.limit
        if extra <= 0:
            return
        if drop_newest:
            del self.rows[:extra]
            self.top -= extra
            self.at_head = False
            self.above = None if self.above is None else self.above + extra
        else:
            del self.rows[-extra:]
            self.at_tail = False

    def _top_key(self) -> Key | None:
        return key_of(self.rows[self.top]) if self.top < len(self.rows) else None

    def _key_by_id(self, run_id: UUID | None) -> Key | None:
        return next((key_of(run) for run in self.rows if run.id == run_id), None)

    # Moving

    def set_height(self, height: int) -> None:
        """The viewport has another height."""
        in_view = self.cursor is not None
        self.height = max(height, 1)
        self.limit = max(self.limit, self.page + 3 * self.height)
        self.top = max(min(self.top, len(self.rows) - self.height), 0)
        if in_view:
            self._keep_cursor_visible()

    def move(self, delta: int) -> None:
        """The cursor `delta` rows down; one that has scrolled out of view comes back to the viewport first."""
        if not self.rows:
            return
        if self.cursor is None:
            self.cursor_id = self.rows[self.top].id
            return
        index = next(n for n, run in enumerate(self.rows) if run.id == self.cursor_id)
        self.cursor_id = self.rows[max(0, min(index + delta, len(self.rows) - 1))].id
        self._keep_cursor_visible()

    def show_cursor(self) -> bool:
        """True where the cursor is in view; else it is put on the top row, for the operator to look at first."""
        if self.cursor is None and self.rows:
            self.cursor_id = self.rows[self.top].id
            return False
        return self.cursor is not None

    def _keep_cursor_visible(self) -> None:
        index = next((n for n, run in enumerate(self.rows) if run.id == self.cursor_id), None)
        if index is None:
            return
        if index < self.top:
            self.top = index
        elif index >= self.top + self.height:
            self.top = index - self.height + 1
