import math
import random
from dataclasses import replace

import pytest
import torch

from harness.engine.example_losses import loglikelihoods, target_logprobs
from harness.engine.finetune import choose, drop_weights, fine_tune, load_fine_tuned
from harness.engine.finetune_config import (
    FineTuneConfig,
    FineTuning,
    TrainingExample,
    continuation_example,
    fine_tuning_digest,
)
from harness.engine.finetuned_model import task_tokens
from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.errors import DamageWarning, HarnessError, InputError
from harness.segments import Text
from harness.testing import UniformModel
from tests.tiny_decoder import TinyDecoder

RECIPE = FineTuneConfig(learning_rate=2e-2, epochs=6, patience=6, batch_size=8)


class Toy(TinyDecoder):
    """Text of one id per letter under small random weights."""

    def logits(self, states):
        return self.module.lm_head(states)


@pytest.fixture(autouse=True)
def home(empty_home):
    return empty_home


@pytest.fixture(scope="module")
def toy():
    return Toy()


def words(number, seed):
    """Three to six letters, of which the first is `a` in half of them and `b` in the others."""
    rng = random.Random(seed)
    return ["ab"[i % 2] + "".join(rng.choices("xyz", k=rng.randint(2, 5))) for i in range(number)]


def example(model, word):
    """The class depends on the first letter, from the state of the last one and the task token."""
    ids = [*model.encode_prompt((Text(word),), "text"), *task_tokens(model, ["<task>"]).values()]
    return TrainingExample(tuple(ids), (len(ids) - 1,), ("ab".index(word[0]),))


def job(model, config=RECIPE, *, seed=0, make=example, classes=2):
    train, dev = (tuple(make(model, w) for w in words(n, s)) for n, s in ((48, 1), (12, 2)))
    return FineTuning(("<task>",), classes, config, seed, train, dev)


def classes_of(tuned, examples, batch_tokens=8192):
    found = dict(target_logprobs(tuned, examples, batch_tokens=batch_tokens))
    return [int(found[i].argmax()) for i in range(len(examples))]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_head_learns_to_classify(toy, method):
    trained = job(toy, replace(RECIPE, method=method))
    fresh = [example(toy, word) for word in words(20, 3)]
    assert classes_of(load_fine_tuned(toy, trained), fresh) == [0, 1] * 10


def answer(model, word):
    """`a…` is answered by the letter k, `b…` by m, and the end."""
    context = [*model.encode_prompt((Text(word),), "text"), *task_tokens(model, ["<task>"]).values()]
    return continuation_example(context, [*model.encode_continuation(Text("km"["ab".index(word[0])])), model.end])


def test_continuations_are_learned_and_generated(toy):
    tuned = load_fine_tuned(toy, job(toy, replace(RECIPE, epochs=20), make=answer, classes=0))
    right = loglikelihoods(tuned, [answer(toy, word) for word in ("axyz", "bxyz")], batch_tokens=64)
    assert all(value > math.log(0.5) for value in right)
    requests = [Continue(word, (Text(word),), "text", 3, context=answer(toy, word).ids[:-1]) for word in ("azz", "bzz")]
    written = dict(Generator(tuned, sampling=Sampling(temperature=0), seed=0).generate(requests))
    assert {r.id: g.segments for r, g in written.items()} == {"azz": (Text("k"),), "bzz": (Text("m"),)}


def test_loglikelihoods_are_sums_over_targets(toy):
    """By hand: log-softmax of a plain pass at the places before the targets."""
    tuned = load_fine_tuned(toy, job(toy, replace(RECIPE, epochs=1), make=answer, classes=0))
    examples = [answer(toy, word) for word in words(5, 4)]
    expected = []
    with torch.inference_mode():
        for one in examples:
            scores = tuned.logits(tuned.forward(torch.tensor([one.ids])).states)[0].log_softmax(-1)
            expected.append(sum(float(scores[p, t]) for p, t in zip(one.positions, one.targets, strict=True)))
    assert loglikelihoods(tuned, examples, batch_tokens=16) == pytest.approx(expected, abs=1e-4)


def test_predictions_do_not_depend_on_the_batch(toy):
    tuned = load_fine_tuned(toy, job(toy, replace(RECIPE, epochs=1)))
    examples = [example(toy, word) for word in words(30, 5)]
    found = [dict(target_logprobs(tuned, examples, batch_tokens=n)) for n in (1, 40, 8192)]
    for i in range(len(examples)):
        assert torch.allclose(found[0][i], found[1][i], atol=1e-5)
        assert torch.allclose(found[0][i], found[2][i], atol=1e-5)


def weights(tuned):
    return {name: value.clone() for name, value in tuned.module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_model_itself_stays_as_it_is(toy):
    before = {name: value.clone() for name, value in toy.module.state_dict().items()}
    tuned = load_fine_tuned(toy, job(toy))
    assert same(before, toy.module.state_dict())
    assert tuned.fingerprint != toy.fingerprint
    assert tuned.tokens == {"<task>": toy.module.get_input_embeddings().weight.shape[0]}


def test_lora_leaves_the_old_weights_alone(toy):
    tuned = load_fine_tuned(toy, job(toy, replace(RECIPE, method="lora")))
    own = weights(tuned)
    for name, value in toy.module.state_dict().items():
        stem, _, kind = name.rpartition(".")
        kept = own[name] if name in own else own[f"{stem}.base_layer.{kind}"]
        assert torch.equal(kept[: len(value)], value), name
    assert any("lora_B" in name and value.abs().max() > 0 for name, value in own.items())


def test_the_same_job_is_trained_once(toy, monkeypatch):
    first = fine_tune(toy, job(toy))
    monkeypatch.setattr("harness.engine.finetune._train", lambda *_: pytest.fail("trained again"))
    assert fine_tune(toy, job(toy)) == first
    assert classes_of(load_fine_tuned(toy, job(toy)), [example(toy, "axx")]) == [0]


def test_weights_that_are_gone_are_trained_again_to_the_same(toy, home):
    once = weights(load_fine_tuned(toy, job(toy)))
    drop_weights(toy, job(toy))
    assert not list(home.glob("finetuned/*/*.safetensors"))
    assert same(once, weights(load_fine_tuned(toy, job(toy))))


def test_a_stopped_training_leaves_nothing_and_changes_nothing(toy, home):
    class Stopped(Toy):
        passes = 0

        def forward(self, *args, **kwargs):
            self.passes += 1
            if self.passes == 20:
                raise KeyboardInterrupt
            return super().forward(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        fine_tune(Stopped(), job(toy))
    assert not list(home.glob("finetuned/*/*"))
    after = weights(load_fine_tuned(toy, job(toy)))
    drop_weights(toy, job(toy))
    assert same(after, weights(load_fine_tuned(toy, job(toy))))


def test_another_seed_gives_other_weights(toy):
    short = replace(RECIPE, epochs=1)
    assert not same(
        weights(load_fine_tuned(toy, job(toy, short))), weights(load_fine_tuned(toy, job(toy, short, seed=1)))
    )


def test_the_best_epoch_is_kept_and_patience_ends_the_training(toy):
    """What is learned makes a development set with the opposite labels worse from the first epochs on."""
    usual = job(toy, replace(RECIPE, patience=2))
    opposite = tuple(replace(one, targets=(1 - one.targets[0],)) for one in usual.dev)
    contrary = replace(usual, dev=opposite)
    record = fine_tune(toy, contrary)
    assert len(record["dev_loss"]) == record["best_epoch"] + 2 < RECIPE.epochs + 1
    assert record["best_loss"] == min(record["dev_loss"]) == record["dev_loss"][record["best_epoch"] - 1]
    kept = load_fine_tuned(toy, contrary)
    loss = -sum(
        float(found[0, opposite[i].targets[0]]) for i, found in target_logprobs(kept, opposite, batch_tokens=99)
    )
    assert loss / len(opposite) == pytest.approx(record["best_loss"], abs=1e-4)


def test_what_weighs_nothing_is_not_learned(toy):
    """Half of the labels are wrong, but those weigh 0."""
    usual = job(toy)
    wrong = tuple(replace(one, targets=(1 - one.targets[0],), weight=0.0) for one in usual.train)
    tuned = load_fine_tuned(toy, replace(usual, train=usual.train + wrong))
    assert classes_of(tuned, [example(toy, word) for word in words(10, 3)]) == [0, 1] * 5


def test_the_lowest_dev_loss_is_chosen_and_the_first_of_equals(toy):
    jobs = [job(toy)] * 3
    sound = [{"diverged": False, "best_loss": loss} for loss in (0.5, 0.2, 0.2)]
    assert choose(jobs, sound) == 1
    assert choose(jobs, [{"diverged": True, "best_loss": None}, *sound[:2]]) == 2


def test_a_rate_that_is_too_high_is_reported(toy):
    wild = job(toy, replace(RECIPE, learning_rate=1e30, warmup_share=0.0, epochs=2))
    record = fine_tune(toy, wild)
    assert record["diverged"]
    assert record["best_epoch"] is None
    with pytest.raises(HarnessError, match=r"diverged at every learning rate tried \(1e\+30\)"):
        choose([wild], [record])
    with pytest.raises(HarnessError, match="diverged"):
        load_fine_tuned(toy, wild)


def test_the_digest_is_of_all_that_decides_the_weights(toy):
    usual = job(toy)
    changed = [
        replace(usual, seed=1),
        replace(usual, config=replace(RECIPE, epochs=7)),
        replace(usual, tokens=("<task>", "<end>")),
        replace(usual, num_classes=3),
        replace(usual, train=usual.train[1:]),
        replace(usual, dev=usual.dev[1:]),
        replace(usual, train=(replace(usual.train[0], weight=2.0), *usual.train[1:])),
    ]
    digests = {fine_tuning_digest(toy, one) for one in (usual, *changed)} | {fine_tuning_digest(Toy(seed=1), usual)}
    assert len(digests) == len(changed) + 2


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(InputError, match="'uniform' cannot be fine-tuned"):
        task_tokens(UniformModel(), ["<task>"])


def test_nothing_to_learn_is_refused(toy):
    with pytest.raises(InputError, match="found 0 and 12"):
        replace(job(toy), train=())


@pytest.mark.parametrize("name", ["model.safetensors", "record.json"])
@pytest.mark.parametrize("kind", ["overwritten", "truncated"])
def test_what_was_damaged_is_trained_again(toy, home, name, kind):
    short = job(toy, replace(RECIPE, epochs=1))
    record, whole = fine_tune(toy, short), weights(load_fine_tuned(toy, short))
    (file,) = home.glob(f"finetuned/*/{name}")
    data, middle = file.read_bytes(), file.stat().st_size // 2
    file.write_bytes(data[:middle] + (b"\xa5" * 300 + data[middle + 300 :] if kind == "overwritten" else b""))
    with pytest.warns(DamageWarning, match=rf"The fine-tuned model {file.parent} is damaged \({name}.*trained again"):
        again = load_fine_tuned(toy, short)
    assert same(weights(again), whole)
    assert fine_tune(toy, short) == record
    assert (home / "finetuned" / f"{file.parent.name}.corrupt-1").is_dir()


def test_other_code_or_libraries_train_anew(toy, monkeypatch):
    before = fine_tuning_digest(toy, job(toy))
    assert fine_tuning_digest(toy, job(toy)) == before
    monkeypatch.setattr("harness.code.version", lambda package: "0")
    assert fine_tuning_digest(toy, job(toy)) != before
