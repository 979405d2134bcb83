"""Cron strings of every kind: refused at once, by every way in, or good for a fire; no worker sees a bad one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from jobdeck.client import Client
from jobdeck.clock import to_us
from jobdeck.errors import ValidationError
from jobdeck.limits import DEFINITION_BATCH
from jobdeck.model import Job, JobSpec
from jobdeck.store.schema import job_versions, schedules
from tests.faults.case import LONG_LEASE, Case
from tests.faults.cli import said
from tests.faults.invariants import Breach
from tests.faults.virtual import TYPE, Virtual, virtual

ODD = (
    # Dates that never come, in this year or in any.
    "0 0 30 2 *", "0 0 31 2 *", "0 0 31 4,6,9,11 *", "0 0 1 1 * 2020", "0 0 31 2,4,6 *",
    # Seconds and years, ranges that run backwards, steps that lead nowhere, values of a process of its own.
    "*/10 * * * * *", "0 0 0 1 1 * 2030", "*/100 * * * *", "*/60 * * * *", "5-1 * * * *",
    "R R * * *", "H H * * *", "59/15 * * * *", "0/15 * * * *", "*/0 * * * *", "*/-5 * * * *", "5-5 * * * *",
    # Floods.
    ",".join(["0-59"] * 20_000) + " * * * *", ",".join(["0-59/1"] * 50_000) + " * * * *", "9" * 5_000 + " * * * *",
    "* " * 50_000, "*" * 100_000,
    # Out of range, and no expression at all.
    "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "-1 * * * *", "1.5 * * * *",
    "", " ", "*", "* * * *", "@daily", "@reboot", "every day", "0 0 * * * ; touch x", "0\n0 * * *\n*", "0 0 * * *\x00",
    "٠ ٠ * * *", "０ ０ * * *", "0 0 * * L", "0 0 0W * *", "0 0 * * 1#6", "*,5 * * * *", "1e3 * * * *",
    "0 0 * JANUARY *", "0x1 * * * *", "1_0 * * * *", "+5 * * * *", "0 0 ? ? ?", "null", "[0] * * * *", "{} * * * *",
)  # fmt: skip
GOOD = (
    "*/59 * * * *", "0 0 L,15 * *",
    "* * * * *", "0 0 29 2 1", "0 0 13 * 5", "0 0 29 2 *", "30 2 * * 1-5", "*/20 1 * * *", "0 12 ? * MON", "0 0 L * *",
    "0 0 15W * *", "0 0 * * 5L", "0 0 * * 5#2", "0 0 1 JAN-MAR *", "59 23 31 12 *", "0 0 * * 7", " 0   0 * * * ",
)  # fmt: skip
SHORT, WHOLE = 200, 1_000
# Seconds. What is measured stands in the report: 50 ms on a machine of one's own; this is far beyond that.
BOUND = 10.0
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

_VALUE = st.one_of(
    st.integers(-1, 70).map(str), st.sampled_from(["*", "?", "L", "MON", "JAN", "R", "5L", "1#2", ""])
)
_ITEM = st.one_of(
    _VALUE,
    st.builds("{}-{}".format, _VALUE, _VALUE),
    st.builds("{}/{}".format, _VALUE, _VALUE),
    st.builds("{}-{}/{}".format, _VALUE, _VALUE, _VALUE),
)
_FIELD = st.lists(_ITEM, min_size=1, max_size=3).map(",".join)


def _sound(low: int, high: int) -> st.SearchStrategy[str]:
    """What a field may well hold."""
    number = st.integers(low, high)
    several = st.lists(number, min_size=2, max_size=3, unique=True).map(
        lambda found: ",".join(map(str, found))
    )
    step = st.integers(2, (high - low) // 2 + 1).map("*/{}".format)
    return st.one_of(st.just("*"), number.map(str), several, step)


_SOUND = st.tuples(_sound(0, 59), _sound(0, 23), _sound(1, 31), _sound(1, 12), _sound(0, 6))
_STRINGS = st.one_of(
    _SOUND.map(" ".join),
    st.tuples(_SOUND, st.integers(0, 4), _FIELD).map(lambda drawn: _with(*drawn)),
    st.lists(_FIELD, min_size=5, max_size=5).map(" ".join),
    st.lists(_FIELD, min_size=1, max_size=7).map(" ".join),
    st.text(st.sampled_from("0123456789*,-/?LW#RH@ \t\n"), max_size=40),
    st.text(max_size=20),
)


def _with(fields: tuple[str, ...], place: int, field: str) -> str:
    """An expression one field of which may be anything."""
    return " ".join([*fields[:place], field, *fields[place + 1 :]])


def fuzzed(count: int) -> list[str]:
    """The same strings at every run."""
    found: list[str] = []

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_STRINGS)
    def gather(text: str) -> None:
        found.append(text)

    gather()
    return found


class Ways:
    """The ways in: a new job, a change of one, a file of jobs; taken in turn."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job
        self._number = 0
        self.took: list[float] = []

    async def give(self, cron: str) -> Job | ValidationError:
        """The job with this schedule, or why there is none."""
        self._number += 1
        definition: dict[str, object] = {"type": TYPE, "schedule": {"cron": cron}}
        begun = time.monotonic()
        try:
            return await self._give(definition)
        except ValidationError as error:
            return error
        finally:
            self.took.append(time.monotonic() - begun)

    async def _give(self, definition: dict[str, object]) -> Job:
        jobs, slug = self._client.jobs, f"job{self._number}"
        match self._number % 3:
            case 0:
                return await jobs.create(slug, definition)
            case 1:
                return await jobs.update(self._job.id, definition)
            case _:
                await jobs.apply([JobSpec(slug, definition)])
                return await jobs.show(await jobs.resolve(slug))


async def test_t03_cron_strings(case: Case) -> None:
    """Odd strings and fuzzed ones, by create, update and apply: an error of one line, or a fire that comes."""
    strings = [*ODD, *GOOD, *fuzzed(case.size.of(SHORT, WHOLE))]
    more: list[Breach] = []
    taken: set[str] = set()
    async with virtual(case) as around:
        await around.at(NOON)
        ways = Ways(around.client, await around.scheduled("kept", cron="0 3 * * *"))
        for cron in strings:
            found = await ways.give(cron)
            if isinstance(found, ValidationError):
                if "\n" in str(found) or len(str(found)) > 500:
                    more.append(Breach("T03", cron[:40], f"is refused with {str(found)!r:.200}"))
            else:
                taken.add(cron)
                if found.next_fire_at is None or found.next_fire_at <= NOON:
                    more.append(Breach("T03", cron[:40], f"fires next at {found.next_fire_at}"))
        more += [Breach("T03", cron[:40], "is taken") for cron in ODD if cron in taken]
        more += [Breach("T03", cron[:40], "is refused") for cron in GOOD if cron not in taken]
        more += [breach async for breach in _by_worker(around)]
    told = f"{len(strings)} strings, {len(taken)} taken; {1_000 * median(ways.took):.0f} ms each, at most"
    case.judge(more=more, faults=len(strings), note=f"{told} {1_000 * max(ways.took):.0f} ms")
    assert max(ways.took) < BOUND
    assert len(taken) > len(GOOD) + 10, "too few of the fuzzed ones are expressions"


async def _by_worker(around: Virtual) -> AsyncIterator[Breach]:
    """What the rounds of a worker do not fire when its time has come: in a year, and after a leap day."""
    for years in (1, 6):
        await around.at(NOON + timedelta(days=366 * years))
        await around.rounds.fire()
    for job in await around.client.jobs.list():
        cron = str(job.facts["schedule"]["cron"])[:40]
        if job.schedule_note and "missed fires were left out" not in job.schedule_note:
            yield Breach("T03", cron, job.schedule_note)
        if job.last_fire_at is None:
            yield Breach("T03", cron, "has never fired")


async def test_t03_by_command(case: Case) -> None:
    """The command line refuses the odd ones with exit code 2: in a file to apply as a whole, and in one job."""
    file = case.folder / "jobs.toml"
    more: list[Breach] = []
    for cron in ODD[::8]:
        file.write_text(
            f'[jobs.good]\ntype = "noop"\n\n[jobs.bad]\ntype = "noop"\nschedule = {{ cron = {json.dumps(cron)} }}\n'
        )
        code, _, told = await said(case, "jobs", "apply", str(file))
        if code != 2 or told.count("\n") != 1:
            more.append(Breach("T03", cron[:40], f"exit code {code}: {told:.200}"))
    code, _, told = await said(
        case, "jobs", "create", "bad", "--type", "noop", "--set", "schedule.cron=0 0 30 2 *"
    )
    assert (code, "bad" in told or "cron" in told) == (2, True)
    async with case.client() as client:
        assert await client.jobs.list() == []
    case.judge(more=more, faults=len(ODD[::8]) + 1, note="by command")


SPOILT = {
    "no JSON": "{",
    "a list": "[]",
    "a pickle": "cos\nsystem\n(S'x'\ntR.",
    "no type": '{"schedule":{"cron":"* * * * *"}}',
    "never": '{"type":"noop","schedule":{"cron":"0 0 30 2 *"}}',
    "flood": json.dumps({"type": "noop", "schedule": {"cron": "0-59," * 20_000 + " * * * *"}}),
    "seconds": '{"type":"noop","schedule":{"cron":"* * * * * *"}}',
    "zone": '{"type":"noop","schedule":{"cron":"* * * * *","timezone":"../../etc/passwd"}}',
    "path": '{"type":"os.system","schedule":{"cron":"* * * * *"}}',
    "deep": '{"type":"noop","params":' + "[" * 100_000,
}
# More than a worker looks at in one go.
MANY = 120


async def test_t03_spoilt_schedules(case: Case) -> None:
    """Definitions changed in the database fire nothing, say why, and are in nobody's way, however many there are."""
    async with case.client() as client:
        specs = {name: f"spoilt{number}" for number, name in enumerate(SPOILT)}
        ids = await _made(
            client, [*specs.values(), *(f"many{number}" for number in range(MANY)), "late", "good"]
        )
        changes = dict(zip(ids, [*SPOILT.values(), *["{"] * MANY], strict=False))
        early = to_us(datetime.now(UTC) - timedelta(minutes=10))
        with case.connection() as conn:
            for job_id, definition in changes.items():
                row = update(job_versions).where(job_versions.c.job_id == job_id)
                conn.execute(row.values(definition=definition))
            # Those that are spoilt have waited longest, and so come first.
            conn.execute(update(schedules).values(next_fire_at=early))
            late = update(schedules).where(schedules.c.job_id == ids[-2])
            conn.execute(late.values(next_fire_at=-(2**62)))
            conn.execute(
                update(schedules).where(schedules.c.job_id == ids[-1]).values(next_fire_at=early + 60_000_000)
            )
        worker = case.workers.start(settings=LONG_LEASE)
        await case.until(lambda: len(_noted(case)) == len(SPOILT) + MANY + 1)
        await case.until(lambda: {row["job_id"] for row in case.history().runs} == {ids[-1]})
        notes = _noted(case)
        worker.terminate()
        assert worker.wait() == 0
    case.judge(faults=len(SPOILT) + MANY + 1, note=f"{len(notes)} spoilt schedules before a good one")
    assert all(note.startswith("a worker cannot fire it: ") for note in notes.values())


async def _made(client: Client, slugs: list[str]) -> list[UUID]:
    specs = [JobSpec(slug, {"type": "noop", "schedule": {"cron": "* * * * *"}}) for slug in slugs]
    ids: list[UUID] = []
    for start in range(0, len(specs), DEFINITION_BATCH):
        ids += await client.jobs.create_many(specs[start : start + DEFINITION_BATCH])
    return ids


def _noted(case: Case) -> dict[UUID, str]:
    """What jobs say of schedules that stand still."""
    with case.connection() as conn:
        rows = conn.execute(select(schedules.c.job_id, schedules.c.note).where(schedules.c.note.is_not(None)))
        return {job_id: note for job_id, note in rows if "cannot fire" in note}
