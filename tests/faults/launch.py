"""`python -m tests.faults.launch …` is `jobdeck …` with a kill point in it, where the environment names one."""

from __future__ import annotations

from jobdeck.cli import main
from tests.faults.killpoints import install

if __name__ == "__main__":
    install()
    main()
