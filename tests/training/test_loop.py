import math
import re
from dataclasses import replace

import pytest
import torch

from harness.engine.packing import PackedBatch
from harness.errors import ConfigError, CorpusError
from harness.training.loop import DivergedError, Trainer, TrainingStep, optimizer_for, schedule_of
from harness.training.recipe import Architecture, Mixture
from tests.training.toy import ARCHITECTURE, DROPPING, config, finished, formatter, trainer, utterances, weights

# --- optimizer --------------------------------------------------------------------------------------------------------


def test_only_matrices_decay():
    run = trainer()
    names = {id(p): name for name, p in run.model.named_parameters()}
    decayed, others = ([names[id(p)] for p in g["params"]] for g in optimizer_for(run.model, config()).param_groups)
    assert all(re.search(r"(proj|fc1|fc2)\.weight$", name) for name in decayed)
    assert all("embed" in name or "norm" in name or name.endswith("bias") for name in others)
    assert len(decayed) + len(others) == len(names)
    assert len(decayed) == 6


# --- a run ------------------------------------------------------------------------------------------------------------


def test_the_loss_falls():
    run = finished(steps=30, eval_every=99)
    assert run.history[-1]["loss"] < 0.8 * run.history[0]["loss"]


def test_every_step_is_reported():
    steps: list[TrainingStep] = []
    run = trainer()
    run.run(steps.append)
    assert [s.step for s in steps] == [1, 2, 3, 4, 5, 6]
    assert {s.steps for s in steps} == {6}
    assert [s.learning_rate for s in steps] == [schedule_of(config()).rate(i) for i in range(6)]
    assert all(s.tokens_per_s > 0 and s.grad_norm > 0 for s in steps)
    assert [bool(s.dev) for s in steps] == [False, False, True, False, False, True]
    assert steps[-1].tokens == run.tokens
    assert [h["loss"] for h in run.history] == [s.loss for s in steps]


def test_every_format_is_validated_whatever_the_mixture():
    run = trainer(mixture=Mixture(speech=1, text=0, cst=0, ast=0))
    before, after = run.validate(), run.validate()
    assert set(before) == {"dev_speech", "dev_text", "dev_cst", "dev_ast"}
    assert all(3 < value < 5 for value in before.values())  # ln 42 = 3.74
    assert before == after


def test_validation_does_not_drop_out():
    run = trainer(None, DROPPING)
    assert run.validate() == run.validate()


def test_validation_leaves_out_alternating_where_no_word_times_are():
    bare = [replace(u, starts_s=()) for u in utterances(3)]
    only_text = config(mixture=Mixture(speech=1, text=1, cst=1, ast=0))
    made = [Trainer(ARCHITECTURE, only_text, formatter(), bare, dev, state=None) for dev in (bare, utterances(2))]
    assert [set(run.validate()) for run in made] == [
        {"dev_speech", "dev_text", "dev_cst"},
        {"dev_speech", "dev_text", "dev_cst", "dev_ast"},
    ]


def test_a_corpus_without_any_word_times_is_refused_before_the_first_step():
    bare = [replace(u, starts_s=()) for u in utterances(3)]
    with pytest.raises(CorpusError, match="None of 3 training utterances, such as 'u0', has word times"):
        Trainer(ARCHITECTURE, config(), formatter(), bare, utterances(2), state=None)


def test_some_missing_word_times_are_trained_around_and_counted():
    corpus = [*utterances(5), replace(utterances(1)[0], id="bare", starts_s=())]
    run = Trainer(ARCHITECTURE, config(), formatter(), corpus, utterances(2), state=None)
    run.run()
    assert run.stream.num_without_word_times == 1
    assert run.stream.realized()["ast"]["samples"] > 0


def test_validation_takes_so_many_documents_of_each_format():
    """Every document predicts all of its tokens but the first."""
    few, many = (trainer(eval_documents=n) for n in (2, 5))
    for run, number in [(few, 2), (many, 5)]:
        for kind, batches in run._dev.items():
            starts = sum(int(((b.positions == 0) & (b.documents >= 0)).sum()) for b in batches)
            assert starts == number, kind
    assert few.validate() != many.validate()


def test_nothing_to_learn_from_or_to_validate_on_is_refused():
    with pytest.raises(CorpusError, match="training corpus holds no utterance"):
        Trainer(ARCHITECTURE, config(), formatter(), [], utterances(2), state=None)
    with pytest.raises(CorpusError, match="development set holds no utterance"):
        Trainer(ARCHITECTURE, config(), formatter(), utterances(2), [], state=None)


def test_accumulating_gradients_is_a_larger_batch():
    """Two batches of one row, each loss divided by the tokens of both, have the gradient of one batch of two rows."""
    one, two = (finished(accumulate=n, learning_rate=1e-3, eval_every=99) for n in (1, 2))
    assert one.tokens == two.tokens
    for a, b in zip(one.history, two.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)


def test_bfloat16_runs_on_float32_weights():
    run = finished(dtype="bfloat16")
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    exact = finished()
    assert [h["loss"] for h in run.history] == pytest.approx([h["loss"] for h in exact.history], abs=0.1)
    assert [h["loss"] for h in run.history] != [h["loss"] for h in exact.history]


def test_rows_are_no_longer_than_the_context():
    short = Architecture(num_layers=1, hidden_size=16, num_heads=2, ffn_size=32, context=24)
    run = Trainer(short, config(), formatter(), utterances(12), utterances(5), state=None)
    run.run()
    assert run.stream.num_cut > 0


def test_a_batch_smaller_than_a_row_is_refused():
    with pytest.raises(ConfigError, match="batch_tokens=63 is smaller than one row of row_tokens=64"):
        config(batch_tokens=63)


def test_two_runs_with_one_seed_are_the_same_and_another_seed_is_another():
    one, same, other = (finished(None, DROPPING, seed=seed) for seed in (0, 0, 1))
    assert one.history == same.history
    assert weights(one) == weights(same) != weights(other)


# --- divergence -------------------------------------------------------------------------------------------------------


def test_a_senseless_learning_rate_is_reported_as_divergence():
    with pytest.raises(DivergedError, match=r"diverged at step \d+: .*Lower the learning rate"):
        finished(learning_rate=1e6, warmup_steps=0, steps=60)


def test_weights_that_are_not_numbers_are_reported_and_never_saved(tmp_path):
    run = trainer(tmp_path / "state")
    with torch.no_grad():
        next(run.model.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="step 1: loss nan"):
        run.run()
    assert not (tmp_path / "state").exists()


def test_a_last_step_into_the_void_is_reported_and_never_saved(tmp_path, monkeypatch):
    run = trainer(tmp_path / "state", steps=1, warmup_steps=0)
    step = run.optimizer.step

    def ruin() -> None:
        step()
        with torch.no_grad():
            next(run.model.parameters()).fill_(math.nan)

    monkeypatch.setattr(run.optimizer, "step", ruin)
    with pytest.raises(DivergedError, match="step 1: dev_speech nan"):
        run.run()
    assert not (tmp_path / "state").exists()


def test_batches_do_not_depend_on_what_ran_before(monkeypatch):
    seen: list[PackedBatch] = []
    for _ in range(2):
        torch.rand(7)
        run = trainer()
        seen.append(run._packer.batch(2))
    assert (seen[0].ids == seen[1].ids).all()
