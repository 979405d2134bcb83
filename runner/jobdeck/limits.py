"""One table of limits and defaults (spec.md 1.2-1.8, X6-X30). Durations are seconds, sizes are bytes."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Sizes of what is stored. JSON is measured as compact UTF-8.
PARAMS_BYTES: Final = 256 * KIB
RESULT_BYTES: Final = 256 * KIB
CHECKPOINT_BYTES: Final = 256 * KIB
METADATA_BYTES: Final = 16 * KIB
DEFINITION_BYTES: Final = PARAMS_BYTES + 64 * KIB
ERROR_BYTES: Final = 8 * KIB
LOG_LINE_BYTES: Final = 8 * KIB
LOG_RUN_BYTES: Final = 10 * MIB
JSON_DEPTH: Final = 32
JSON_NODES: Final = 10_000

# Lengths of names, in characters.
NAME_CHARS: Final = 256
SLUG_CHARS: Final = 64
QUEUE_CHARS: Final = 128
JOB_TYPE_CHARS: Final = 128
MESSAGE_CHARS: Final = 512
REASON_CHARS: Final = 512
FILTER_CHARS: Final = 512
TAGS: Final = 32
TAG_CHARS: Final = 128
TAGS_BYTES: Final = TAGS * 2 * TAG_CHARS * 12
"""Room for all of them: a character that no terminal may see is stored as ten, two of them escaped."""
KEY_CHARS: Final = 256
URL_CHARS: Final = 2_048

DESCRIPTION_CHARS: Final = 4_096

# Notifications. A day or so from the first try to the last; 64 KiB is more than receivers like (20 KiB) and far less
# than what they refuse.
NOTIFIERS: Final = 20
ADDRESSES: Final = 20
DELIVERY_TRIES: Final = 8
DELIVERY_BASE: Final = 60.0
DELIVERY_FACTOR: Final = 4.0
DELIVERY_CAP: Final = 43_200.0
DELIVERY_DEADLINE: Final = 15.0
DELIVERY_PARALLEL: Final = 8
DELIVERY_PER_RECEIVER: Final = 2
UNDELIVERABLE_AFTER: Final = 3 * 86_400
TOLD_RESULT_BYTES: Final = 64 * KIB
SECRET_OVERLAP: Final = 86_400
"""For so long the secret of a webhook signs beside the one that has replaced it."""

# Numbers of a run.
PRIORITY_MIN: Final = 1
PRIORITY_MAX: Final = 10
PRIORITY_DEFAULT: Final = 5
MAX_ATTEMPTS_MIN: Final = 1
MAX_ATTEMPTS_MAX: Final = 100
MAX_ATTEMPTS_DEFAULT: Final = 3
TIMEOUT_MAX: Final = 86_400
DELAY_MAX: Final = 366 * 86_400
TTL_MAX: Final = 366 * 86_400
DEDUPE_WINDOW_MAX: Final = 366 * 86_400
CRASH_BUDGET: Final = 3
AFTER_RUNS: Final = 100
"""Runs that one run may wait for."""
DEPENDENCIES: Final = 100
"""Jobs that one job may start after."""
LINEAGE_MAX: Final = 100
"""Generations of child runs: more is taken for a handler that calls itself for ever."""
CONCURRENCY_MAX: Final = 10_000
RATE_MAX: Final = 10_000
RATE_WINDOW_MAX: Final = 86_400
RATE_KEYS: Final = 8
"""Named rate limits that one job may stand under."""
ENQUEUE_BATCH: Final = 10_000
BULK_RUNS: Final = 1_000_000
"""Runs that one bulk operation visits: 24 bytes each, in the client and in the database."""
DEFINITION_BATCH: Final = 100

CLAIM_MAX: Final = 100
"""Runs that a program claims from a pull queue at once."""

# Times.
VISIBILITY: Final = 30.0
VISIBILITY_MIN: Final = 1.0
VISIBILITY_MAX: Final = 43_200.0
"""As Amazon SQS has it: 12 hours."""
PARK_MAX: Final = DELAY_MAX
IDEMPOTENCY_WINDOW: Final = 86_400.0
LEASE: Final = 30.0
CANCEL_GRACE: Final = 10.0
SHUTDOWN_GRACE: Final = 30.0
CANCEL_NOTICE: Final = 1.0
BACKOFF_BASE: Final = 2.0
BACKOFF_FACTOR: Final = 2.0
BACKOFF_CAP: Final = 3_600.0

# Schedules: characters of an expression, years without a fire that are refused, seconds.
CRON_CHARS: Final = 100
CRON_YEARS: Final = 5
CATCH_UP: Final = 10
CATCH_UP_MAX: Final = 1_000
MISFIRE_GRACE: Final = 60.0
CRON_JITTER_MAX: Final = 3_600

# Pages of lists.
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 500
# Runs a page looks at for what no index holds: a queue, a category, a project, a label, a text. Neighbours in a list
# stand close together in the table: 0.3 us each on SQLite and 0.5 us on PostgreSQL, twice that for a text. Those of
# one type or status are scattered: 2 to 5 us each. Measured with a million runs.
PAGE_LOOKS: Final = 2_000
PAGE_LOOKS_SCATTERED: Final = 300

WORKER_CONCURRENCY: Final = 10
# Job types that run on their own schedule only and stand in no list of a team.
SYSTEM_TYPES: Final = "system."
HOUSE_TYPES: Final = ("system.prune", "system.checkpoint", "system.statistics")
"""Those of jobdeck itself: every worker has them."""
SYSTEM_QUEUE: Final = "system"
"""Every worker serves it, whatever queues it is for."""
PROCESSES_MAX: Final = 64
HTTP_PER_HOST: Final = 10
DEFAULT_QUEUE: Final = "default"
DEFAULT_TEAM: Final = "default"
SYSTEM_TEAM: Final = "system"
"""The team of jobs of system types; nobody makes one of this name."""
DEFAULT_PROJECT: Final = "default"

QUEUE_PATTERN: Final = r"^[a-zA-Z0-9_-]{1,128}$"
LABEL_PATTERN: Final = QUEUE_PATTERN
NOTIFIER_PATTERN: Final = r"^[a-z0-9_][a-z0-9_.-]{0,63}$"
JOB_TYPE_PATTERN: Final = r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$"
REFERENCE_NAME_PATTERN: Final = r"[A-Za-z][A-Za-z0-9_]{0,63}"
"""Name of a secret, not anchored; upper and lower case are the same."""
SLUG_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
