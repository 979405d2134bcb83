"""Saved jobs: every change is a version, nothing is half done, and runs know what they were made by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.definition import JobDefinition, parse_definition
from jobdeck.errors import (
    Conflict,
    JobDisabled,
    NotFound,
    UnknownJobType,
    ValidationError,
    VersionConflict,
)
from jobdeck.ids import new_id
from jobdeck.model import JobFilter, JobRef, JobSpec, PlanAction, RunExtras
from jobdeck.states import Status
from jobdeck.store.approvals import Decide, approve
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.schema import job_versions, jobs, runs
from tests.store.clients import REMOTE, client_of
from tests.store.deck import Deck, team_of
from tests.store.fleet import join

SYNC: dict[str, Any] = {"type": "sync", "params": {"source": "crm", "pages": 2}}


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


async def claimed(deck: Deck) -> ClaimedRun:
    (run,) = await deck.claim()
    return run


async def test_a_job_is_stored_as_it_was_defined(client: Client) -> None:
    """Slug, project, version, who and when; of the definition what differs from the defaults."""
    job = await client.jobs.create("nightly", {**SYNC, "priority": 2, "queue": "default"}, note="first")
    assert (job.slug, job.project, job.version, job.enabled) == ("nightly", "main", 1, True)
    assert (job.created_by, job.updated_by, job.archived_at) == ("ada", "ada", None)
    assert job.facts == {**SYNC, "priority": 2}
    (version,) = await client.jobs.versions(job.id)
    assert (version.version, version.facts, version.created_by, version.note) == (
        1,
        job.facts,
        "ada",
        "first",
    )
    assert await client.jobs.resolve("nightly") == await client.jobs.resolve(job.shown_id) == job.id


async def test_every_update_makes_a_version(client: Client) -> None:
    """Fields are replaced, None takes one out, no change makes no version; old versions stay as they were."""
    job = await client.jobs.create("nightly", SYNC)
    second = await client.jobs.update(job.id, {"priority": 1, "params": {"source": "shop"}}, note="shop now")
    assert (second.version, second.facts) == (
        2,
        {"type": "sync", "params": {"source": "shop"}, "priority": 1},
    )
    third = await client.jobs.update(job.id, {"priority": None})
    assert (third.version, "priority" in third.facts) == (3, False)
    assert (await client.jobs.update(job.id, {"queue": "default"})).version == 3
    assert [each.version for each in await client.jobs.versions(job.id)] == [3, 2, 1]
    assert (await client.jobs.version(job.id, 1)).facts == SYNC
    changes = await client.jobs.diff(job.id, 1, 2)
    assert [tuple(change) for change in changes] == [
        ("params.pages", 2, None), ("params.source", "crm", "shop"), ("priority", None, 1),
    ]  # fmt: skip
    back = await client.jobs.rollback(job.id, 1)
    assert (back.version, back.facts) == (4, SYNC)
    assert (await client.jobs.versions(job.id))[0].note == "back to version 1"
    with pytest.raises(NotFound, match="no version 9"):
        await client.jobs.rollback(job.id, 9)


async def test_two_people_do_not_overwrite_each_other(client: Client, deck: Deck) -> None:
    """An update of another version than the newest is refused; of many at once one wins."""
    job = await client.jobs.create("nightly", SYNC)
    await client.jobs.update(job.id, {"priority": 1})
    with pytest.raises(VersionConflict, match="version 2 by now, not 1") as caught:
        await client.jobs.update(job.id, {"priority": 3}, if_version=1)
    assert caught.value.details()["version"] == 2
    updates = (client.jobs.update(job.id, {"priority": 10 - each}, if_version=2) for each in range(5))
    results = await asyncio.gather(*updates, return_exceptions=True)
    assert sum(isinstance(result, VersionConflict) for result in results) == 4
    assert len(await deck.rows(job_versions)) == 3


async def test_a_batch_is_made_as_a_whole_or_not_at_all(client: Client, deck: Deck) -> None:
    """A wrong definition, a slug that is taken and one that stands twice: the error names which, and none is stored."""
    await client.jobs.create("taken", SYNC)
    good = [JobSpec(f"job{number}", SYNC) for number in range(3)]
    for bad, kind, words in (
        (
            JobSpec("wrong", {"type": "sync", "params": {"pages": 0}}),
            ValidationError,
            "job 4 of the batch: .*pages",
        ),
        (JobSpec("taken", SYNC), Conflict, "job 4 of the batch: there is already a job 'taken'"),
        (JobSpec("job1", SYNC), Conflict, "job 4 of the batch: there is already a job 'job1'"),
        (JobSpec("No Slug", SYNC), ValidationError, "job 4 of the batch: .*slug"),
    ):
        with pytest.raises(kind, match=words):
            await client.jobs.create_many([*good, bad])
    assert [row["slug"] for row in await deck.rows(jobs)] == ["taken"]
    assert len(await client.jobs.create_many(good)) == 3


async def test_as_many_as_a_batch_may_have(client: Client) -> None:
    """A hundred jobs, not a hundred and one, and not none."""
    specs = [JobSpec(f"job{number}", SYNC) for number in range(101)]
    for wrong in (specs, []):
        with pytest.raises(ValidationError, match=f"1 to 100 jobs, not {len(wrong)}"):
            await client.jobs.create_many(wrong)
    assert len(await client.jobs.create_many(specs[:100])) == 100


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "type: it is needed"),
        ({"type": "sync", "colour": "red"}, "colour: there is no such field"),
        ({"type": "sync", "priority": 11}, "priority: .*less than or equal to 10"),
        ({"type": "sync", "max_attempts": 0}, "max_attempts: .*greater than or equal to 1"),
        ({"type": "sync", "name": "n" * 257}, "name: .*at most 256"),
        ({"type": "sync", "queue": "a b"}, "queue: "),
        ({"type": "sync", "timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"type": "sync", "timeout": "2d"}, "a timeout lies between"),
        ({"type": "sync", "ttl": "0s"}, "a time to live"),
        ({"type": "sync", "params": {"pages": "many"}}, "params of sync: pages"),
        ({"type": "sync", "params": {"s": "x" * limits.PARAMS_BYTES}}, "262,144 are allowed"),
        ({"type": "sync", "params": "{"}, "is not valid JSON"),
        ({"type": "sync", "tags": {str(n): "v" for n in range(33)}}, "tags: .*at most 32"),
        ({"type": "sync", "metadata": {"k": "v" * 16_384}}, "16,384 are allowed"),
        ({"type": "sync", "description": "d" * 4_097}, "description: .*at most 4096"),
        ({"type": "sync", "backoff": {"growth": "custom"}}, "a custom backoff has a list"),
        ({"type": "sync", "payload_schema": {"type": "no such"}}, "it is no JSON Schema"),
        (
            {**SYNC, "payload_schema": {"properties": {"pages": {"minimum": 3}}}},
            "params of the job: pages: 2 is less",
        ),
        ({"type": "sync", "payload_schema": {"$ref": "http://127.0.0.1:9/x"}}, "cannot be used: "),
        ({"type": "sync", "on_conflict": "replace"}, "needs a type with single flight"),
        ({"type": "sync", "version_policy": "newest"}, "version_policy: "),
        ({"type": "sync", "environment": "a b"}, "environment: "),
    ],
)
async def test_a_definition_that_cannot_work_is_refused(
    client: Client, deck: Deck, facts: dict[str, Any], words: str
) -> None:
    """When it is saved and when it is changed, in one line, and nothing is stored."""
    with pytest.raises(ValidationError, match=words) as caught:
        await client.jobs.create("bad", facts)
    assert "\n" not in caught.value.message
    assert await deck.rows(jobs) == []


async def test_types_nobody_knows_and_types_of_the_system(client: Client) -> None:
    """The same errors as for a run."""
    with pytest.raises(UnknownJobType):
        await client.jobs.create("bad", {"type": "unheard_of"})


def test_what_is_stored_is_what_was_said() -> None:
    """A definition comes back from its facts as it was, whatever is set."""
    whole = {
        "type": "sync", "name": "Nightly", "description": "d", "params": {"a": None},
        "payload_schema": {"type": "object"}, "queue": "slow", "priority": 1, "delay": "5m", "ttl": "1h",
        "timeout": "90s", "max_attempts": 7,
        "backoff": {"growth": "linear", "base": 5.0}, "tags": {"k": "v"}, "metadata": {"m": [1]},
        "environment": "prod", "group": "g", "requires_approval": True, "notify": True, "on_conflict": "reject",
        "max_concurrency": 3, "concurrency_key": "crm", "max_concurrency_per_key": 2,
        "rate_limit": {"max": 20, "window": "10s"}, "rate_limit_keys": [{"name": "api", "max": 5, "window": "1m"}],
        "execution_window": {"cron": "* 9-17 * * 1-5", "timezone": "Europe/London"},
        "version_policy": "latest", "backwards_compatible": False,
        "schedule": {"cron": "0 2 * * *", "timezone": "Europe/London", "jitter": 60, "catch_up": "all"},
        "webhook_url": "https://example.com/ended",
        "notifiers": [
            {"type": "email", "to": ["ops@example.com"], "on": ["failed", "cancelled"]},
            {"type": "pager", "target": "crew"},
        ],
    }  # fmt: skip
    assert set(whole) == set(JobDefinition.model_fields)
    definition = parse_definition(whole)
    assert parse_definition(definition.facts()) == definition
    assert definition.facts() == whole


async def test_a_run_of_a_job(client: Client) -> None:
    """It takes over what the definition says; params, tags and metadata of the trigger go over it, key by key."""
    job = await client.jobs.create(
        "nightly",
        {
            **SYNC, "name": "Nightly", "queue": "slow", "priority": 2, "ttl": "1h", "timeout": "90s", "max_attempts": 7,
            "tags": {"a": "1", "b": "1"}, "metadata": {"m": 1}, "environment": "prod",
            "backoff": {"growth": "fixed", "base": 9},
        },
    )  # fmt: skip
    run = await client.jobs.trigger(job.id, {"pages": 5}, tags={"b": "2"}, priority=1)
    assert (run.job, run.job_id, run.job_version, run.environment) == ("nightly", job.id, 1, "prod")
    assert (run.params, run.tags, run.metadata) == (
        {"source": "crm", "pages": 5},
        {"a": "1", "b": "2"},
        {"m": 1},
    )
    assert (run.name, run.queue, run.priority, run.timeout_s, run.max_attempts) == (
        "Nightly",
        "slow",
        1,
        90.0,
        7,
    )
    assert run.expires_at is not None
    assert run.expires_at - run.created_at == timedelta(hours=1)
    assert (run.backoff or {})["growth"] == "fixed"
    with pytest.raises(ValidationError):
        await client.jobs.trigger(job.id, {"pages": 0})


async def test_a_payload_schema_narrows_what_the_handler_takes(client: Client) -> None:
    """Params that the handler would take are refused where the job's own schema does not."""
    job = await client.jobs.create(
        "nightly", {**SYNC, "payload_schema": {"properties": {"pages": {"maximum": 3}}}}
    )
    await client.jobs.trigger(job.id, {"pages": 3})
    with pytest.raises(ValidationError, match="params of the job: pages: 4 is greater than the maximum of 3"):
        await client.jobs.trigger(job.id, {"pages": 4})


async def test_new_params_of_a_run_are_narrowed_too(client: Client) -> None:
    """What a trigger may not state cannot be put in later: not by a change of the run, nor by running it again; it is
    the schema of the version that the run is of."""
    job = await client.jobs.create(
        "nightly", {**SYNC, "payload_schema": {"properties": {"pages": {"maximum": 3}}}}
    )
    run = await client.jobs.trigger(job.id)
    await client.jobs.update(job.id, {"payload_schema": {"properties": {"pages": {"maximum": 9}}}})
    for act in (client.runs.update, client.runs.rerun):
        with pytest.raises(ValidationError, match="params of the job: pages: 4 is greater"):
            await act(run.id, params={"pages": 4})
        assert (await act(run.id, params={"pages": 3})).params == {"pages": 3}
    assert (await client.runs.update(run.id, priority=1)).priority == 1


async def test_params_that_come_with_each_run(client: Client, deck: Deck) -> None:
    """A definition may leave out what is required; a run may not. So for types whose package is not here."""
    await join(deck.database, REMOTE)
    job = await client.jobs.create("nightly", {"type": "remote", "params": {"pages": 2}})
    with pytest.raises(ValidationError, match="'source' is a required property"):
        await client.jobs.trigger(job.id)
    assert (await client.jobs.trigger(job.id, {"source": "a"})).params == {"source": "a", "pages": 2}
    with pytest.raises(ValidationError, match="pages: 0 is less than the minimum"):
        await client.jobs.update(job.id, {"params": {"pages": 0}})
    await client.jobs.update(job.id, {"payload_schema": {"required": ["source"]}})


async def test_a_disabled_job_is_not_run(client: Client, deck: Deck) -> None:
    """A conflict that names what helps; `force` runs it all the same, and enabled it runs again."""
    job = await client.jobs.create("nightly", SYNC, enabled=False)
    with pytest.raises(JobDisabled, match="jobdeck jobs enable nightly") as caught:
        await client.jobs.trigger(job.id)
    assert (caught.value.exit_code, await deck.rows(runs)) == (4, [])
    assert (await client.jobs.trigger(job.id, force=True)).status is Status.PENDING
    assert await client.jobs.switch([job.id], enabled=True) == 1
    assert await client.jobs.switch([job.id], enabled=True) == 0
    await client.jobs.trigger(job.id)


async def test_many_jobs_are_switched_all_or_none(client: Client) -> None:
    """One that is not there leaves the others as they were."""
    ids = await client.jobs.create_many([JobSpec(f"job{number}", SYNC) for number in range(3)])
    with pytest.raises(NotFound):
        await client.jobs.switch([*ids, new_id()], enabled=False)
    assert all(job.enabled for job in await client.jobs.list())
    assert await client.jobs.switch(ids, enabled=False) == 3
    assert await client.jobs.list(JobFilter(enabled=True)) == []


async def test_archiving(client: Client, deck: Deck) -> None:
    """Refused while a run is active; then out of lists, not to be run, its slug free, its history still there."""
    job = await client.jobs.create("nightly", SYNC)
    run = await client.jobs.trigger(job.id)
    with pytest.raises(Conflict, match=r"runs of the job nightly are active, like run_"):
        await client.jobs.archive(job.id)
    await deck.finish(await claimed(deck))
    assert (await client.jobs.archive(job.id)).archived_at is not None
    assert await client.jobs.list() == []
    assert [each.id for each in await client.jobs.list(JobFilter(archived=True))] == [job.id]
    with pytest.raises(NotFound):
        await client.jobs.resolve("nightly")
    for act in (client.jobs.trigger(job.id, force=True), client.jobs.update(job.id, {"priority": 1})):
        with pytest.raises(NotFound):
            await act
    assert (await client.runs.show(run.id)).job == "nightly"
    assert (await client.jobs.create("nightly", SYNC)).id != job.id


async def test_a_clone_is_disabled(client: Client) -> None:
    """The same definition under another slug, which runs only when somebody says so."""
    job = await client.jobs.create("nightly", {**SYNC, "priority": 1})
    copy = await client.jobs.clone(job.id, "weekly")
    assert (copy.slug, copy.facts, copy.enabled, copy.version) == ("weekly", job.facts, False, 1)
    with pytest.raises(Conflict):
        await client.jobs.clone(job.id, "weekly")


async def test_jobs_belong_to_a_team_and_a_project(client: Client, deck: Deck) -> None:
    """The same slug in two teams is two jobs; a foreign job and an unknown one are the same."""
    job = await client.jobs.create("nightly", SYNC)
    other = client_of(await team_of(deck.database, "other"))
    assert (await other.jobs.create("nightly", SYNC)).id != job.id
    for act in (
        other.jobs.show(job.id), other.jobs.update(job.id, {"priority": 1}), other.jobs.archive(job.id),
        other.jobs.versions(job.id), other.jobs.trigger(job.id), other.jobs.switch([job.id], enabled=False),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await act
    assert len(await other.jobs.list()) == 1
    homeless = client_of(deck, project=None)
    team_job = await homeless.jobs.create("nightly", {"type": "team_report"})
    assert (team_job.project, await homeless.jobs.resolve("nightly")) == (None, team_job.id)
    assert await client.jobs.resolve("nightly") == job.id
    other.close()
    homeless.close()


async def test_queued_runs_and_newer_versions(client: Client, deck: Deck) -> None:
    """Pinned runs stay with their version; with `latest` they move to a compatible one, but for what was stated."""
    pinned = await client.jobs.create("pinned", SYNC)
    latest = await client.jobs.create("latest", {**SYNC, "version_policy": "latest"})
    await client.jobs.trigger(pinned.id)
    plain = await client.jobs.trigger(latest.id)
    stated = await client.jobs.trigger(latest.id, {"pages": 9}, max_attempts=2)
    for job in (pinned, latest):
        await client.jobs.update(job.id, {"params": {"source": "shop", "pages": 3}, "max_attempts": 8})
    found = {run.id: run for run in await deck.claim(5)}
    assert len(found) == 3
    (old,) = [run for run in found.values() if run.id not in (plain.id, stated.id)]
    assert (old.params, old.rare.job_version) == ('{"source":"crm","pages":2}', 1)
    moved = await client.runs.show(plain.id)
    assert (moved.params, moved.job_version, moved.max_attempts) == ({"source": "shop", "pages": 3}, 2, 8)
    assert found[plain.id].params == '{"source":"shop","pages":3}'
    assert (found[plain.id].max_attempts, found[plain.id].rare.job_version) == (8, 2)
    kept = await client.runs.show(stated.id)
    assert (kept.params, kept.job_version, kept.max_attempts) == ({"source": "shop", "pages": 9}, 2, 2)


async def test_a_version_that_queued_runs_must_not_take(client: Client, deck: Deck) -> None:
    """One that is not backwards compatible leaves them alone; so does any where a run was approved as it is."""
    job = await client.jobs.create("latest", {**SYNC, "version_policy": "latest"})
    await client.jobs.trigger(job.id)
    approved = await client.jobs.trigger(job.id, requires_approval=True)
    await deck.database.write(approve, Decide(deck.scope.team_id, approved.id, "bob", None))
    await client.jobs.update(
        job.id, {"priority": 1, "params": {"source": "new"}, "backwards_compatible": False}
    )
    assert (await claimed(deck)).rare.job_version == 1
    await client.jobs.update(job.id, {"backwards_compatible": None})
    assert (await claimed(deck)).rare.job_version == 1


async def test_files_are_applied(client: Client, deck: Deck) -> None:
    """The plan says what applying does; applying it again does nothing; a wrong one changes nothing at all."""
    await client.jobs.create("kept", SYNC)
    await client.jobs.create("changed", SYNC)
    specs = [
        JobSpec("new", {**SYNC, "priority": 3}),
        JobSpec("kept", SYNC),
        JobSpec("changed", {**SYNC, "priority": 1}, enabled=False),
    ]
    plan = await client.jobs.plan(specs)
    assert [step.action for step in plan] == [PlanAction.CREATE, PlanAction.KEEP, PlanAction.UPDATE]
    assert [tuple(change) for change in plan[2].changes] == [("enabled", True, False), ("priority", None, 1)]
    assert len(await deck.rows(jobs)) == 2
    with pytest.raises(ValidationError, match="job broken: "):
        await client.jobs.apply([*specs, JobSpec("broken", {"type": "sync", "priority": 0})])
    assert len(await deck.rows(jobs)) == 2
    assert await client.jobs.apply(specs, note="from git") == plan
    assert {step.action for step in await client.jobs.plan(specs)} == {PlanAction.KEEP}
    changed = await client.jobs.show(await client.jobs.resolve("changed"))
    assert (changed.version, changed.enabled) == (2, False)


async def test_what_a_newer_version_must_not_touch(client: Client, deck: Deck) -> None:
    """Not a run whose params somebody has changed, none of another type, and none past an approval it would need."""
    latest = {**SYNC, "version_policy": "latest"}
    for slug, change in (
        ("changed", {"params": {"source": "new"}}),
        ("other-type", {"type": "team_report", "params": None}),
        ("approval", {"params": {"source": "new"}, "requires_approval": True}),
    ):
        job = await client.jobs.create(slug, latest)
        run = await client.jobs.trigger(job.id)
        if slug == "changed":
            await client.runs.update(run.id, params={"source": "mine"})
        await client.jobs.update(job.id, change)
    for run_ in await deck.claim(5):
        shown = await client.runs.show(run_.id)
        wanted = {"source": "mine"} if shown.job == "changed" else SYNC["params"]
        assert (shown.params, shown.job_version) == (wanted, 1), shown.job


async def test_jobs_of_other_projects_and_again(client: Client, deck: Deck) -> None:
    """By its id a job is changed and cloned in its own project, whichever the client works in; a run that is made again
    is of its job."""
    job = await client.jobs.create("nightly", SYNC)
    homeless = client_of(deck, project=None)
    assert (await homeless.jobs.update(job.id, {"priority": 1})).version == 2
    assert (await homeless.jobs.clone(job.id, "weekly")).project == "main"
    run = await client.jobs.trigger(job.id, {"pages": 3})
    again = await client.runs.rerun(run.id)
    assert (again.job, again.job_version, again.params) == ("nightly", 2, run.params)
    homeless.close()


async def test_equal_in_python_is_not_equal(client: Client) -> None:
    """1, 1.0 and true are three values: a change from one to the other is a change."""
    await client.jobs.create("nightly", {"type": "sync", "params": {"flag": 1}})
    (step,) = await client.jobs.plan([JobSpec("nightly", {"type": "sync", "params": {"flag": True}})])
    assert step.action is PlanAction.UPDATE


async def test_a_run_is_of_a_job_of_its_own_team(client: Client, deck: Deck) -> None:
    """The store itself makes none of a foreign job: it is as one that does not exist."""
    job = await client.jobs.create("nightly", SYNC)
    other = await team_of(deck.database, "other")
    for job_id in (job.id, new_id()):
        with pytest.raises(NotFound, match=r"no job job_\w+ in this team$"):
            await other.enqueue(extras=RunExtras(job=JobRef(job_id, 1, None)))
    assert await deck.rows(runs) == []
