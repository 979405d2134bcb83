"""From measured values to the table: medians, ranges, percentiles, ratios and goals."""

from pathlib import Path

import pytest

from bench.document import noise, results
from bench.machine import Calibration
from bench.results import Goal, Other, Row, at_most, row_as_json, times
from bench.stats import percentile, ratios, spread
from bench.table import BEGIN, END, number, replace_between_markers, table

ROW = Row("drain", "runs/s", (100.0, 300.0, 200.0), (Other("huey", "peer", (50.0, 100.0, 40.0)),))


def test_a_spread_is_the_median_and_the_range() -> None:
    """One outlier moves the range, not the median."""
    found = spread([3.0, 1.0, 200.0])
    assert (found.median, found.low, found.high) == (3.0, 1.0, 200.0)


def test_nothing_measured_is_an_error() -> None:
    """No figure comes out of nothing."""
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


@pytest.mark.parametrize(("share", "value"), [(0.01, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    """The nearest rank: of 1 to 100, the 99th percentile is 99."""
    assert percentile([float(each) for each in range(100, 0, -1)], share) == value


def test_a_percentile_of_few_values_is_the_highest() -> None:
    """Of two values none but the second has 99 % below it."""
    assert percentile([1.0, 7.0], 0.99) == 7.0


def test_ratios_are_taken_round_by_round() -> None:
    """Each value is divided by the one measured beside it, and rounds that do not fit are refused."""
    assert ratios((100.0, 300.0), (50.0, 100.0)) == (2.0, 3.0)
    with pytest.raises(ValueError, match="shorter"):
        ratios((1.0, 2.0), (1.0,))


def test_the_ratio_of_a_row_is_the_median_of_the_rounds() -> None:
    """Not the ratio of two medians, which would be 200 / 50 = 4."""
    assert ROW.ratio(ROW.others[0]) == (2.0, 3.0, 5.0)
    (goal,) = times(ROW, "huey", 3)
    assert goal.values == (2.0, 3.0, 5.0)
    assert goal.met


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("≥ 3", (2.0, 3.0, 5.0), at_least=3.0), True),
        (Goal("≥ 3.1", (2.0, 3.0, 5.0), at_least=3.1), False),
        (Goal("≤ 3", (2.0, 3.0, 5.0), at_most=3.0), True),
        (Goal("≤ 2.9", (2.0, 3.0, 5.0), at_most=2.9), False),
    ],
)
def test_a_goal_is_met_by_the_median(goal: Goal, met: bool) -> None:
    """Neither the best round nor the worst decides."""
    assert goal.met is met


def test_there_is_no_goal_against_what_was_not_measured() -> None:
    """Without the peer nothing is claimed about it."""
    assert times(ROW, "pgqueuer", 1.2) == ()


def test_a_row_of_the_table_says_everything() -> None:
    """Figures with their range, the other's name, the ratio, the goal and whether it is met."""
    line = table([ROW.held_to(*times(ROW, "huey", 4), *at_most(ROW, 250))]).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "drain",
        "runs/s",
        "200 (100-300)",
        "huey: 50.0 (40.0-100)",
        "-",
        "3.00 (2.00-5.00) x huey",
        "≥ 4 x huey<br>≤ 250 runs/s",
        "NO: 3.00 (2.00-5.00)<br>yes: 200 (100-300)",
    ]


def test_a_row_that_could_not_be_measured_says_so() -> None:
    """Its note stands where figures would."""
    line = table([Row("drain", "runs/s", (), note="no C compiler here")]).splitlines()[-1]
    assert line.startswith("| drain (no C compiler here) | runs/s | - |")


def test_the_json_has_every_round() -> None:
    """Whoever doubts a median can look at what it was taken from."""
    found = row_as_json(ROW.held_to(*times(ROW, "huey", 3)))
    assert found["ours"] == {"median": 200.0, "min": 100.0, "max": 300.0, "rounds": [100.0, 300.0, 200.0]}
    assert found["others"][0]["ratio"]["rounds"] == [2.0, 3.0, 5.0]
    assert found["goals"][0]["met"] is True


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (99.94, "99.9"), (1.234, "1.23"), (0.0123, "0.012"), (0.0, "0.00")],
)
def test_a_number_has_as_many_digits_as_mean_something(value: float, text: str) -> None:
    """About three."""
    assert number(value) == text


def test_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    """Only what stands between the markers is replaced, also the second time."""
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    replace_between_markers(document, "new\n")
    replace_between_markers(document, "newer\n")
    assert document.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    """Nothing is overwritten where the place of the table is not known."""
    document = tmp_path / "performance.md"
    document.write_text(f"only a beginning: {BEGIN}\n")
    with pytest.raises(ValueError, match="are missing"):
        replace_between_markers(document, "new")
    assert document.read_text() == f"only a beginning: {BEGIN}\n"


def test_targets_come_first_and_every_question_has_its_table() -> None:
    """A row with a goal stands in both, one without only below its question."""
    held = ROW.held_to(*times(ROW, "huey", 3))
    other = Row("enqueue", "runs/s", (1.0,))
    text = results({"drain-sqlite": [held, other]})
    targets, _, below = text.partition("### drain-sqlite")
    assert "1 of 1 met" in targets
    assert "| drain |" in targets
    assert "| enqueue |" not in targets
    assert "| drain |" in below
    assert "| enqueue |" in below


def test_noise_is_stated_as_a_range() -> None:
    """The slowest and the fastest moment of the machine are both named."""
    text = noise([Calibration(1_000.0, 10.0), Calibration(3_000.0, 30.0), Calibration(2_000.0, 20.0)])
    assert "2,000/s (1,000-3,000)" in text
    assert "20.0 ms (10.0-30.0)" in text
