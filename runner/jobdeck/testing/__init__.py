"""Test kit for authors of handlers: run a handler through the real executor, without a database.

result = await run_handler(revenuecat_sync, {"integration_id": "i1"})
assert result.outcome == "completed"
"""

from jobdeck.testing.clock import FakeClock
from jobdeck.testing.harness import ChildRun, HandlerResult, LoggedLine, run_handler, run_handler_sync

__all__ = ["ChildRun", "FakeClock", "HandlerResult", "LoggedLine", "run_handler", "run_handler_sync"]
