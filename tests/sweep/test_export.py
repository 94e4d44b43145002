import csv

from harness.model import read_card
from harness.results import Metric
from harness.sweep.export import export
from harness.sweep.plan import SweepPlan
from harness.sweep.simplex import Repetition
from harness.sweep.trial import TrialResult, TrialSpec
from tests.toy_sweep import toy_spec


def result(number, speech, metrics):
    mixture = {"speech": speech, "text": 1 - speech, "ast": 0.0}
    realized = {"speech": {"token_share": speech, "sample_share": 0.5, "epochs": 2.0}}
    return TrialResult(
        spec=TrialSpec(number, 0, mixture, seed=0, size="proxy", stage="design"),
        metrics={key: Metric(value=value, n=4, higher_is_better=False) for key, value in metrics.items()},
        realized=realized, losses={}, steps=1, tokens=100, flops=6.0, train_s=1.0, evaluate_s=0.5,
        peak_memory_bytes=7, resumed_from=0,
    )  # fmt: skip


def test_a_row_for_each_trial(tmp_path):
    """A part that a trial did not train on has a realized share of 0; a metric that it lacks is empty."""
    spec = toy_spec(tmp_path)
    plan = SweepPlan(spec, {"proxy": read_card("sutlm-tiny")}, Repetition((1.0,), (1,), 1.0, "tokens", 1.0), {}, {})
    results = [result(0, 0.25, {"a": 1.5}), result(1, 1.0, {"a": 2.0, "b": 3.0})]
    paths = export(plan, results, tmp_path / "out")
    assert [path.name for path in paths] == ["ratios.csv", "metrics.csv"]
    ratios, metrics = (list(csv.DictReader(path.read_text().splitlines())) for path in paths)
    assert [row["speech"] for row in ratios] == ["0.25", "1.0"]
    assert [row["realized_speech"] for row in ratios] == ["0.25", "1.0"]
    assert {row["realized_ast"] for row in ratios} == {"0.0"}
    assert [(row["a"], row["b"], row["tokens"]) for row in metrics] == [("1.5", "", "100"), ("2.0", "3.0", "100")]
