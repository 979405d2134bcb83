"""Looks after the tests that `docs/capabilities.md` names: in a run of the whole suite each of them has to pass.

A pytest plugin. A run of a part of the suite only says that it did not look; that the tests exist is tested anyway.
Where the tests are spread over processes (pytest-xdist), those say what they have collected, and it is judged in the
one process that all reports come to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import pytest

from tests.capabilities.table import named_tests

_collected: Final = pytest.StashKey[list[str]]()
_passed: Final = pytest.StashKey[set[str]]()
_unproven: Final = pytest.StashKey[list[str]]()
_TO_THE_END: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
_COLLECTED: Final = "tests.capabilities.collected"


def unproven(named: Sequence[str], collected: Collection[str], passed: Collection[str]) -> list[str]:
    """What is wrong: a named test that is not there, or one of whose cases (each database, say) did not pass."""
    cases: dict[str, list[str]] = {}
    for node in collected:
        cases.setdefault(node.partition("[")[0], []).append(node)
    missing = [f"{test}: there is no such test" for test in named if test not in cases]
    left = [node for test in named for node in cases.get(test, []) if node not in passed]
    return missing + [f"{node}: it did not run to its end and pass" for node in left]


def is_whole(config: pytest.Config) -> bool:
    """Whether all tests were asked for."""
    asked = config.args_source is pytest.Config.ArgsSource.TESTPATHS or config.args == ["tests"]
    chosen = ("keyword", "markexpr", "lf", "collectonly")
    return asked and not any(config.getoption(name, default=None) for name in chosen)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Before anything is deselected."""
    config.stash[_collected] = [item.nodeid for item in items]
    said: dict[str, Any] = getattr(config, "workeroutput", {})
    said[_COLLECTED] = config.stash[_collected]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Learn what a process has collected. All have the same, but one that broke down says nothing."""
    said: dict[str, Any] = getattr(node, "workeroutput", {})
    if _COLLECTED in said:
        node.config.stash[_collected] = said[_COLLECTED]


class _Watch:
    """Notes which tests have passed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        passed = self._config.stash.setdefault(_passed, set())
        if report.failed:
            passed.discard(report.nodeid)
        elif report.when == "call" and report.passed:
            passed.add(report.nodeid)


def pytest_configure(config: pytest.Config) -> None:
    """Reports do not say which session they are of; a watch for each does."""
    config.pluginmanager.register(_Watch(config))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A promise that nothing has proven fails the session."""
    config = session.config
    is_spread = hasattr(config, "workerinput")
    is_cut = session.shouldstop or session.shouldfail or session.exitstatus not in _TO_THE_END
    if is_spread or is_cut or not is_whole(config):
        return
    collected: list[str] = config.stash.get(_collected, [])
    passed: set[str] = config.stash.get(_passed, set())
    found = unproven(named_tests(), collected, passed)
    config.stash[_unproven] = found
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line, and one for each promise that nothing has proven."""
    found = config.stash.get(_unproven, None)
    if found is not None:
        terminalreporter.write_line(f"capabilities: {len(named_tests())} tests named, {len(found)} unproven")
        for line in found:
            terminalreporter.write_line(f"  {line}")
    elif any("tests/capabilities/" in node for node in config.stash.get(_collected, [])):
        terminalreporter.write_line(
            "capabilities: whether the named tests ran is seen by the whole suite only"
        )
