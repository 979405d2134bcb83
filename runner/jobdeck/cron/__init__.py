"""Cron schedules as values: what an expression may hold, when it fires in a time zone, and how to say it in words.

Pure: no database, and no clock but the moments that are passed in. `grammar` judges the text, croniter expands it,
`pattern` knows which dates and minutes it names, `zone` where the clocks change; `schedule` and `window` put them
together, `wording` and `explain` say it.
"""

from jobdeck.cron.explain import ClockRemark, Explanation, explain
from jobdeck.cron.schedule import CronSchedule
from jobdeck.cron.window import ExecutionWindow
from jobdeck.cron.zone import find_zone

__all__ = ["ClockRemark", "CronSchedule", "ExecutionWindow", "Explanation", "explain", "find_zone"]
