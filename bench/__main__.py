"""`python -m bench`."""

import signal
import sys

from bench.main import main


def _end(number: int, _frame: object) -> None:
    """End in order, so that no server, worker or file is left behind."""
    sys.exit(128 + number)


signal.signal(signal.SIGTERM, _end)
sys.exit(main())
