"""Says at the end of a test session how many tests ran on each database.

A test counts for the database that its fixture or parameter `database_kind` names.
"""

from collections import Counter
from collections.abc import Generator

import pytest

_PROPERTY = "database_kind"
_KINDS = ("sqlite", "postgresql")
_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on each report which database its test ran on."""
    report = yield
    # A test that a fixture skipped or broke has its parameters, but not all of its fixtures' values.
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    kind = {**parameters, **getattr(item, "funcargs", {})}.get(_PROPERTY)
    if kind is not None:
        report.user_properties.append((_PROPERTY, str(kind)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line such as `databases: sqlite 212 passed, postgresql 210 passed 2 failed`."""
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in _OUTCOMES:
        for report in terminalreporter.getreports(outcome):
            # A report of a failed collection has no properties.
            for name, kind in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    counts[kind, outcome] += 1
    if counts:
        terminalreporter.write_line("databases: " + ", ".join(_describe(kind, counts) for kind in _KINDS))


def _describe(kind: str, counts: Counter[tuple[str, str]]) -> str:
    passed = f"{kind} {counts[kind, 'passed']} passed"
    return passed + "".join(
        f" {counts[kind, outcome]} {outcome}" for outcome in _OUTCOMES[1:] if counts[kind, outcome]
    )
