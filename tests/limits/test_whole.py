"""No limit is without a test: every constant of `jobdeck.limits` is tried, or it is said why there is nothing to try.

A new one gets a case in the module of its area, which is read here.
"""

from __future__ import annotations

from typing import Final

import pytest

from jobdeck import limits
from tests.limits import test_elsewhere, test_jobs, test_reading, test_runs, test_workers
from tests.named import exists

TRIED_BY: Final = {
    "PARAMS_BYTES": ("tests/acceptance/test_refusals.py::test_params_up_to_the_limit_and_one_byte_beyond",),
    "RESULT_BYTES": ("tests/limits/test_running.py::test_at_the_limit_and_one_beyond",),
    "CHECKPOINT_BYTES": ("tests/limits/test_running.py::test_checkpoints",),
    "DEFINITION_BYTES": ("tests/limits/test_jobs.py::test_the_largest_definition",),
    "ERROR_BYTES": ("tests/limits/test_running.py::test_errors",),
    "LOG_LINE_BYTES": ("tests/limits/test_running.py::test_lines_and_messages",),
    "MESSAGE_CHARS": ("tests/limits/test_running.py::test_lines_and_messages",),
    "LOG_RUN_BYTES": ("tests/limits/test_running.py::test_the_log_of_a_run",),
    "REASON_CHARS": ("tests/limits/test_runs.py::test_reasons",),
    "SLUG_CHARS": ("tests/limits/test_jobs.py::test_slugs_and_names",),
    "SLUG_PATTERN": ("tests/limits/test_jobs.py::test_slugs_and_names",),
    "ENQUEUE_BATCH": ("tests/limits/test_runs.py::test_as_many_as_may_be_made_at_once",),
    "DEFINITION_BATCH": ("tests/limits/test_jobs.py::test_as_many_jobs_as_a_batch_may_have",),
    "PAGE_DEFAULT": ("tests/limits/test_reading.py::test_a_page_is_as_long_as_it_may_be",),
    "AFTER_RUNS": ("tests/store/test_client_steering.py::test_as_many_as_may_be_waited_for",),
    "LINEAGE_MAX": (
        "tests/store/test_client_trigger.py::test_every_limit_at_its_edge",
        "tests/store/test_client_trigger.py::test_every_limit_one_beyond",
    ),
    "CRASH_BUDGET": ("tests/store/test_recover.py::test_the_third_crash_is_the_last",),
    "JOB_TYPE_CHARS": (
        "tests/plugins/test_declaration.py::test_the_limits_of_names_are_those_of_the_table",
        "tests/plugins/test_declaration.py::test_options_that_cannot_work_are_refused",
    ),
    "JOB_TYPE_PATTERN": ("tests/plugins/test_declaration.py::test_options_that_cannot_work_are_refused",),
    "IDEMPOTENCY_WINDOW": ("tests/store/test_duplicates.py::test_old_keys_are_forgotten",),
    "PAGE_LOOKS": ("tests/store/test_walks.py::test_a_page_says_how_far_it_has_looked",),
    "PAGE_LOOKS_SCATTERED": ("tests/store/test_walks.py::test_a_page_says_how_far_it_has_looked",),
    "SYSTEM_TYPES": ("tests/store/test_filters.py::test_system_jobs_are_shown_only_when_asked_for",),
    "REFERENCE_NAME_PATTERN": ("tests/unit/test_secret.py::test_the_variable_of_a_name",),
    "MAX_ATTEMPTS_DEFAULT": ("tests/plugins/test_declaration.py::test_the_defaults",),
    "CANCEL_GRACE": ("tests/plugins/test_declaration.py::test_the_defaults",),
    "BACKOFF_BASE": ("tests/unit/test_retry.py::test_the_default_steps",),
    "BACKOFF_FACTOR": ("tests/unit/test_retry.py::test_the_default_steps",),
    "BACKOFF_CAP": ("tests/unit/test_retry.py::test_the_default_steps",),
    "CATCH_UP": ("tests/architecture/test_docs.py::test_every_field_of_a_definition_is_explained",),
    "MISFIRE_GRACE": ("tests/architecture/test_docs.py::test_every_field_of_a_definition_is_explained",),
    "LEASE": ("tests/unit/test_settings.py::test_the_example_states_the_defaults",),
    "SHUTDOWN_GRACE": ("tests/unit/test_settings.py::test_the_example_states_the_defaults",),
    "CANCEL_NOTICE": ("tests/unit/test_settings.py::test_the_example_states_the_defaults",),
    "WORKER_CONCURRENCY": ("tests/unit/test_settings.py::test_the_example_states_the_defaults",),
    "HTTP_PER_HOST": ("tests/unit/test_settings.py::test_the_example_states_the_defaults",),
    "VISIBILITY": ("tests/limits/test_elsewhere.py::test_as_many_as_a_claim_may_take",),
    "PARK_MAX": ("tests/engine/test_park.py::test_at_most_a_year",),
    "DEPENDENCIES": ("tests/store/test_chain.py::test_at_most_a_hundred",),
    "BULK_RUNS": ("tests/store/test_bulk.py::test_none_and_too_many",),
    "DELIVERY_TRIES": ("tests/store/test_outbox.py::test_it_is_tried_again_when_it_is_due_and_not_for_ever",),
    "DELIVERY_BASE": ("tests/engine/test_deliveries.py::test_it_is_sent_again_until_it_is_taken",),
    "DELIVERY_FACTOR": ("tests/engine/test_deliveries.py::test_it_is_sent_again_until_it_is_taken",),
    "DELIVERY_CAP": ("tests/engine/test_deliveries.py::test_a_receiver_says_how_long_to_wait",),
    "DELIVERY_DEADLINE": ("tests/engine/test_deliveries.py::test_time_is_short",),
    "DELIVERY_PARALLEL": ("tests/engine/test_deliveries.py::test_a_slow_receiver_holds_nobody_up",),
    "DELIVERY_PER_RECEIVER": ("tests/store/test_outbox.py::test_a_receiver_has_few_places",),
    "UNDELIVERABLE_AFTER": ("tests/store/test_outbox.py::test_only_channels_of_the_sender_are_taken",),
    "TOLD_RESULT_BYTES": ("tests/store/test_outbox.py::test_a_result_goes_to_the_callback_alone",),
    "SECRET_OVERLAP": ("tests/store/test_outbox.py::test_secrets_overlap_for_a_day",),
    "HOUSE_TYPES": ("tests/engine/test_system_jobs.py::test_they_run_when_their_time_comes",),
    "SYSTEM_QUEUE": ("tests/engine/test_system_jobs.py::test_whoever_works_keeps_the_house",),
    "SYSTEM_TEAM": ("tests/engine/test_system_jobs.py::test_a_worker_brings_them_along",),
}
NOTHING_TO_TRY: Final = {
    "KIB": "a unit",
    "MIB": "a unit",
    "DEFAULT_QUEUE": "a name",
    "DEFAULT_TEAM": "a name",
    "DEFAULT_PROJECT": "a name",
}
CASES: Final = (*test_runs.CASES, *test_jobs.CASES, *test_reading.CASES)


def test_every_limit_has_a_case() -> None:
    """A constant that is added without a test fails here, and so does one that is gone and still listed."""
    by_case = {name for case in CASES for name in case.limits}
    by_case |= {name for *_, names in test_workers.SETTINGS for name in names}
    by_case |= {name for *_, names in test_elsewhere.COMMANDS for name in names}
    named = by_case | set(TRIED_BY) | set(NOTHING_TO_TRY)
    assert {name for name in vars(limits) if name.isupper()} == named
    assert set(NOTHING_TO_TRY) & (by_case | set(TRIED_BY)) == set()


@pytest.mark.parametrize("test", sorted({test for tests in TRIED_BY.values() for test in tests}))
def test_what_is_tried_elsewhere_is(test: str) -> None:
    """The tests that are named exist."""
    assert exists(test)


def test_a_case_tries_both_sides() -> None:
    """For each constant there is something that fits and something that is beyond."""
    named = {name for case in CASES for name in case.limits} - {"PRIORITY_DEFAULT"}
    for name in named:
        cases = [case for case in CASES if name in case.limits]
        assert any(case.fits for case in cases), name
        assert any(case.beyond for case in cases), name
