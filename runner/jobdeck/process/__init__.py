"""Child processes that never outlive their worker: `command` and handlers with `isolation="process"`."""

from jobdeck.process.output import OutputLine
from jobdeck.process.supervised import ProcessExit, SupervisedProcess, SupervisorLost

__all__ = ["OutputLine", "ProcessExit", "SupervisedProcess", "SupervisorLost"]
