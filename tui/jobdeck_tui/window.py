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

from jobdeck.model import Run, RunKey, RunStretch
from jobdeck_tui.filters import FilterLine

_LATE = timedelta(seconds=5)
"""A run may become visible so long after the time it was made at: its transaction takes a while."""
_FIRST_ID = UUID(int=0)


class Place(StrEnum):
    """Which page of the list is meant."""

    HEAD = "head"
    TAIL = "tail"
    OLDER = "older"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class PageWanted:
    """A page to be loaded. `anchor` is where it continues (OLDER, NEWER)."""

    generation: int
    place: Place
    anchor: RunKey | None = None
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Look:
    """What the next look at the database has to re-read."""

    generation: int
    after: RunKey | None
    """The run above the first re-read one; None: from the newest."""
    limit: int
    newest: RunKey | None
    """Count what is newer than this; None where new runs are taken in instead."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to a `Look`: the re-read stretch, the present state of rows missing from it, and what is newer."""

    look: Look
    stretch: RunStretch
    others: Sequence[Run]
    newer: int
    newer_more: bool


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
    _stopped: dict[Place, RunKey] = field(default_factory=dict)
    """At the edges (OLDER, NEWER): how far beyond the last row has been looked without finding more."""
    _looked: datetime | None = None
    """When the newest part of the list was looked at last, by the database's clock."""
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
        if not self.loaded:
            return None
        older = not self.at_tail and self.top + self.height + margin > len(self.rows)
        newer = not self.at_head and self.top < margin
        for place, needed in ((Place.OLDER, older), (Place.NEWER, newer)):
            if needed and place not in self._loading and self._edge(place) is not None:
                return self._wanted(place)
        return None

    def _wanted(self, place: Place, *, cursor_to: Place | None = None, restart: bool = False) -> PageWanted:
        if restart:
            self.generation += 1
            self._loading.clear()
            self._cursor_to = cursor_to
        self._loading.add(place)
        return PageWanted(self.generation, place, self._edge(place), self.page)

    def _edge(self, place: Place) -> RunKey | None:
        """Where a page at this edge continues."""
        row = {Place.OLDER: -1, Place.NEWER: 0}.get(place)
        if row is None:
            return None
        return self._stopped.get(place) or (self.rows[row].key if self.rows else None)

    @property
    def searched_to(self) -> datetime | None:
        """Set while the end of the list is not known and nothing more was found down to here."""
        stopped = self._stopped.get(Place.OLDER)
        return None if stopped is None or self.at_tail else stopped.created_at

    def place(self, wanted: PageWanted, stretch: RunStretch) -> bool:
        """Take in a page. False where it answers a question that is no longer asked."""
        if wanted.generation != self.generation:
            return False
        self._loading.discard(wanted.place)
        if wanted.place in (Place.HEAD, Place.TAIL):
            self._start(wanted, stretch)
        else:
            self._extend(wanted, stretch)
        self.loaded = True
        return True

    def _start(self, wanted: PageWanted, stretch: RunStretch) -> None:
        home, whole = wanted.place is Place.HEAD, _is_whole(stretch, wanted.limit)
        self.rows = list(stretch.runs)
        self._gone.clear()
        self._stopped.clear()
        self._note_stop(Place.OLDER if home else Place.NEWER, stretch)
        self.at_head, self.at_tail = home or whole, not home or whole
        self._looked = stretch.as_of if self.at_head else None
        self.above = 0 if self.at_head else None
        self.new, self.new_more = 0, False
        self.top = 0 if home else max(len(self.rows) - self.height, 0)
        kept = self._cursor_to is None and any(run.id == self.cursor_id for run in self.rows[: self.height])
        if not kept:
            self.cursor_id = None if not self.rows else self.rows[0 if home else -1].id
        self._keep_cursor_visible()

    def _note_stop(self, place: Place, stretch: RunStretch) -> None:
        self._stopped.pop(place, None)
        if stretch.stopped is not None:
            self._stopped[place] = stretch.stopped

    def _extend(self, wanted: PageWanted, stretch: RunStretch) -> None:
        if wanted.anchor != self._edge(wanted.place):
            # The rows have changed meanwhile: this page would not touch them.
            return
        whole, anchor = _is_whole(stretch, wanted.limit), self._top_key()
        known = {run.id for run in self.rows}
        fresh = [run for run in stretch.runs if run.id not in known]
        self._note_stop(wanted.place, stretch)
        if wanted.place is Place.OLDER:
            self.rows += fresh
            self.at_tail = whole
        else:
            self.rows[:0] = fresh
            self.at_head = whole
            self._looked = stretch.as_of if whole else None
            if self.above is not None:
                self.above = 0 if whole else max(self.above - len(fresh), 0)
            elif whole:
                self.above = 0
        self._settle(anchor, drop_newest=wanted.place is Place.OLDER)

    # Looking again

    def look(self, ahead: int = 20) -> Look:
        """What to re-read: the stretch in the viewport, with a little below it."""
        first = self.rows[self.top - 1].key if 0 < self.top <= len(self.rows) else None
        return Look(
            generation=self.generation,
            after=first,
            # Above the first loaded row of a window that does not reach the head nothing can be anchored.
            limit=0 if first is None and not self.at_head else self.height + ahead,
            newest=None if self.following or not self.rows else self._newest(),
        )

    def _newest(self) -> RunKey:
        """Up to where everything has been looked at."""
        row = self.rows[0].key
        return row if self._looked is None else max(row, RunKey(self._looked - _LATE, _FIRST_ID))

    def missing(self, look: Look, stretch: RunStretch) -> list[UUID]:
        """Loaded rows that should be in the re-read stretch and are not, and all in the viewport that are not."""
        runs = stretch.runs
        answered = {run.id for run in runs}
        lower = stretch.stopped or (runs[-1].key if runs and len(runs) >= look.limit else None)
        ids = {run.id for run in self.visible if run.id not in answered}
        for run in self.rows:
            if (
                run.id not in answered
                and look.limit
                and (look.after is None or run.key < look.after)
                and (lower is None or run.key > lower)
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
        self._update((*seen.stretch.runs, *seen.others), now)
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
        look, stretch = seen.look, seen.stretch
        runs = stretch.runs
        known = {run.id for run in self.rows}
        whole = _is_whole(stretch, look.limit)
        if look.after is None:
            if len(runs) >= look.limit and not any(run.id in known for run in runs):
                # More new runs than were read: what was loaded does not touch them any more.
                self.rows, self.at_head, self.at_tail, self.above = list(runs), True, False, 0
                self._gone.clear()
                self._stopped.clear()
                self._looked = stretch.as_of
                return
            self._keep_up(stretch)
        oldest = self.rows[-1].key if self.rows else None
        for run in runs:
            reachable = self.at_tail or whole or oldest is None or run.key > oldest
            if run.id not in known and reachable and (look.after is None or run.key < look.after):
                self.rows.append(run)
        self.at_tail = self.at_tail or (whole and look.after is None)

    def _keep_up(self, stretch: RunStretch) -> None:
        """Where a look down from the newest run broke off before it came to what was looked at before, fill the gap."""
        since = None if self._looked is None else self._looked - _LATE
        if since is not None and stretch.stopped is not None and stretch.stopped.created_at > since:
            self.at_head, self.above = False, None
            self._stopped[Place.NEWER] = RunKey(since, _FIRST_ID)
        else:
            self._looked = stretch.as_of

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

    def _settle(self, anchor: RunKey | None, *, drop_newest: bool) -> None:
        """Sort, hold the viewport where it was (`anchor` None: at the head) and let go of what is too much."""
        self.rows.sort(key=lambda run: run.key, reverse=True)
        self.top = 0
        if anchor is not None:
            self.top = next((n for n, run in enumerate(self.rows) if run.key <= anchor), len(self.rows))
        self.top = max(min(self.top, len(self.rows) - self.height), 0)
        extra = len(self.rows) - self.limit
        if extra <= 0:
            return
        if drop_newest:
            del self.rows[:extra]
            self.top -= extra
            self.at_head, self._looked = False, None
            self._stopped.pop(Place.NEWER, None)
            self.above = None if self.above is None else self.above + extra
        else:
            del self.rows[-extra:]
            self.at_tail = False
            self._stopped.pop(Place.OLDER, None)

    def _top_key(self) -> RunKey | None:
        return self.rows[self.top].key if self.top < len(self.rows) else None

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


def _is_whole(stretch: RunStretch, limit: int) -> bool:
    """Whether the list ends in it."""
    return stretch.stopped is None and len(stretch.runs) < limit
