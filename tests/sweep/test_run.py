import pytest

from harness.sweep.run import LaunchOptions, run_sweep
from harness.sweep.status import status, trial_results
from harness.tracking.config import load_tracking_config
from tests.toy_sweep import toy_spec


def test_what_was_trained_is_what_was_asked_for(swept, spec):
    for result in trial_results(swept):
        realized = {part: result.realized.get(part, {"token_share": 0.0})["token_share"] for part in spec.names}
        assert realized == pytest.approx(result.spec.mixture, abs=0.06)
        assert result.steps == 20
        assert result.flops > 6 * 16 * 146 * result.tokens
        assert result.peak_memory_bytes > 10**7
        assert result.metrics["cra.t2t.gold_nll"].value > 0


def test_seeds_of_one_mixture_differ_and_change_the_number(swept, spec):
    uniform = [o for o in trial_results(swept) if set(o.spec.mixture.values()) == {1 / 3} and o.spec.size == "small"]
    assert sorted(o.spec.seed for o in uniform) == [0, 1]
    assert len({o.metrics["cra.t2t.gold_nll"].value for o in uniform}) == 2


def test_the_same_sweep_is_taken_up_and_does_nothing_twice(swept, spec):
    before = len(swept.trials)
    again = run_sweep(spec, swept.folder, load_tracking_config(), LaunchOptions(track=False), say=pytest.fail)
    assert len(again.trials) == before
    again.close()


def test_a_training_that_diverges_is_pruned_with_its_reason(toy, tmp_path):
    hot = toy_spec(toy, name="hot", trials=1, settings={"training": {"learning_rate": 1e30, "warmup_steps": 0}})
    sweep = run_sweep(hot, tmp_path / "hot", load_tracking_config(), LaunchOptions(track=False), say=lambda line: None)
    now = status(sweep)
    sweep.close()
    assert now["states"] == {"PRUNED": 1}
    assert "diverged at step" in now["pruned"]["0"]


def test_successive_halving_stops_the_worse_trials(toy, tmp_path):
    halved = toy_spec(
        toy, name="halved", trials=5, tokens=256 * 20, asha={"reduction": 2}, settings={"training": {"eval_every": 5}}
    )
    sweep = run_sweep(
        halved, tmp_path / "halved", load_tracking_config(), LaunchOptions(track=False), say=lambda line: None
    )
    now = status(sweep)
    sweep.close()
    assert now["states"]["COMPLETE"] + now["states"]["PRUNED"] == 5
    assert all(reason.startswith("successive halving at step") for reason in now["pruned"].values())
