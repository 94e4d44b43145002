"""Leaderboards."""

import pytest

from harness.errors import UnknownNameError
from harness.report import formats
from harness.report.leaderboard import board_blocks, board_table, leaderboard
from tests.report.pages import KEY, TASKS
from tests.runs import drawn


def test_the_leaderboard_keeps_the_latest_of_each_model_and_protocol(runs):
    early, late = drawn("good", skill=0.2), runs[2]
    other = drawn("good", skill=0.3, seed=7)
    boards = leaderboard([(late, 20.0), (early, 10.0), (runs[0], 5.0), (other, 30.0)], tasks=TASKS, by=KEY)
    assert sorted(len(b.standings) for b in boards) == [1, 2]
    board = next(b for b in boards if len(b.standings) == 2)
    assert [(s.model, s.when) for s in board.standings] == [("good", 20.0), ("bad", 5.0)]
    assert "model:" not in board.signature
    assert "|seed:0" in board.signature
    plain = board_table(board).plain()
    assert plain.index("good") < plain.index("bad")
    assert formats.board_markdown(board).count("\n| ") == 4


def test_on_a_narrow_terminal_a_leaderboard_names_the_models_in_each_of_its_tables(runs):
    [board] = leaderboard([(r, float(i)) for i, r in enumerate(runs)], tasks=TASKS, by=KEY)
    table, blocks = board_table(board), board_blocks(board, 80)
    assert len(blocks) > 1
    assert all(b.columns[:2] == ("#", "model") for b in blocks)
    assert tuple(c for b in blocks for c in b.columns[2:]) == table.columns[2:]
    assert [[row[:2] for row in b.rows] for b in blocks] == [[row[:2] for row in table.rows]] * len(blocks)
    assert [b.columns[i] for b in blocks for i in sorted(b.left) if i > 1] == ["run"]
    assert board_blocks(board, 10_000) == [table]


def test_a_lower_metric_ranks_the_other_way(runs):
    [board] = leaderboard([(r, float(i)) for i, r in enumerate(runs)], tasks=TASKS, by="cra.u2t.gold_nll")
    assert [s.model for s in board.standings] == ["good", "middling", "bad"]
    with pytest.raises(UnknownNameError, match="no metric called 'nosuch'"):
        leaderboard([(runs[0], 0.0)], tasks=TASKS, by="nosuch")
