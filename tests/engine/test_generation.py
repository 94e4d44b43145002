import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch

from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.errors import CheckpointError, InputError, OutOfMemoryError
from harness.model import Hidden, load_model
from harness.segments import Speech, Text, UnitSpan
from harness.testing import OracleModel, UniformModel
from tests.tiny_decoder import TinyDecoder

SAMPLERS = [Sampling(), Sampling(0.7, top_k=12), Sampling(1.3, top_p=0.8), Sampling(1.0, 20, 0.9), Sampling(0.0)]


def prompts(n, target="text", **options):
    """Requests with prompts of 1 to n letters."""
    text = "the quick brown fox jumps over it"
    return [Continue(f"p{i}", (Text(text[: i + 1]),), target, 6 + i % 5, **options) for i in range(n)]


def said(model, requests, sampling=SAMPLERS[0], *, seed=0, **options):
    found = {r.id: g for r, g in Generator(model, sampling=sampling, seed=seed, **options).generate(requests)}
    assert set(found) == {r.id for r in requests}
    return found


def ids(found):
    return {i: g.ids for i, g in found.items()}


@pytest.fixture(scope="module")
def tiny():
    return TinyDecoder(seed=3)


class Recomputes(TinyDecoder):
    """Has no KV cache: sequences are read anew."""

    def forward(self, ids, *, lengths=None, past=None, use_cache=False):
        return Hidden(super().forward(ids, lengths=lengths).states)


# --- the same in any batch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLERS, ids=str)
@pytest.mark.parametrize("target", ["text", "speech"])
def test_one_by_one_in_batches_and_without_a_kv_cache_are_the_same(tiny, sampling, target):
    requests = prompts(12, target)
    together = said(tiny, requests, sampling)
    alone = {i: g for r in requests for i, g in said(tiny, [r], sampling).items()}
    assert ids(together) == ids(alone)
    assert ids(together) == ids(said(tiny, requests[::-1], sampling, batch_tokens=70))
    assert ids(together) == ids(said(Recomputes(seed=3), requests, sampling))
    for i, g in together.items():
        assert g.loglikelihood == pytest.approx(alone[i].loglikelihood, abs=1e-4)


def test_the_shipped_model_says_the_same_in_any_batch():
    model: Any = load_model("sutlm-tiny")
    speech = model.tokenizers.speech
    units = Speech(units=UnitSpan((1, 5, 2, 9) * 4, (1,) * 16, speech.rate_hz, speech.system))
    requests = [
        Continue(f"{target}{i}", (Text("the train was late and"[: 5 + 3 * i]), *[units] * (i % 2)), target, 12)
        for target, i in itertools.product(("text", "speech"), range(6))
    ]
    together = said(model, requests)
    assert ids(together) == ids(said(model, requests, batch_tokens=1))
    for request in requests:
        own = set(model.tokens_of(request.target))
        assert set(together[request.id].ids) <= own


def test_choices_that_rounding_could_turn_are_made_alone(monkeypatch):
    """Two tokens as likely as each other, one of them a little more so in company: without the way out, it shows."""

    class Rounds(Fixed):
        def logits(self, states):
            logits = super().logits(states).clone()
            logits[..., self.tokens_of("text")[0]] += 3e-4 if len(states) > 1 else -3e-4
            return logits

    model, requests = Rounds(1.0, 1.0, 0.0, -5.0), prompts(6)
    for sampling in (Sampling(0.0), Sampling(top_k=1)):
        assert ids(said(model, requests, sampling)) == ids(said(model, requests, sampling, batch_tokens=1))
        with monkeypatch.context() as without:
            without.setattr("harness.engine.sampling._LOGIT_SLACK", 1e-9)
            assert ids(said(model, requests, sampling)) != ids(said(model, requests, sampling, batch_tokens=1))


# --- what is drawn ----------------------------------------------------------------------------------------------------


class Fixed(UniformModel):
    """Four bytes with given logits, whatever came before; the end has the last one."""

    def __init__(self, *logits):
        super().__init__({"text"})
        first = self.tokens_of("text")[0]
        self.row = torch.full((312,), -math.inf)
        self.row[first : first + len(logits) - 1] = torch.tensor(logits[:-1])
        self.row[self.end] = logits[-1]

    def logits(self, states):
        return self.row.expand(*states.shape[:-1], -1)

    def drawn(self, sampling, n=4000, **options):
        """How often each byte came first; -1 is the end."""
        asked = [Continue(str(i), (Text("a"),), "text", 1, **options) for i in range(n)]
        first = self.tokens_of("text")[0]
        return Counter(g.ids[0] - first if g.ids else -1 for g in said(self, asked, sampling).values())


def test_tokens_are_drawn_by_their_probabilities():
    """softmax(0, 1, 2, −1) at temperature 2 by hand: weights 1, e^0.5, e, e^−0.5; within four standard errors."""
    n = 4000
    found = Fixed(0.0, 1.0, 2.0, -1.0).drawn(Sampling(2.0), n)
    weights = {0: 1.0, 1: math.exp(0.5), 2: math.e, -1: math.exp(-0.5)}
    for token, weight in weights.items():
        p = weight / sum(weights.values())
        assert abs(found[token] / n - p) < 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(top_k=2), {1, 2}),
        (Sampling(top_k=1), {2}),
        (Sampling(top_p=0.6), {2}),  # 0.609 alone reaches 0.6
        (Sampling(top_p=0.7), {1, 2}),
        (Sampling(top_p=0.9), {0, 1, 2}),  # 0.609 + 0.224 = 0.833, then 0.082: it takes the third too
        (Sampling(top_k=2, top_p=0.6), {2}),
        (Sampling(0.0), {2}),
        (Sampling(), {0, 1, 2, 3, -1}),
    ],
    ids=str,
)
def test_top_k_and_top_p_leave_the_likeliest(sampling, possible):
    """softmax(0, 1, 2, −1, −1) = 0.082, 0.224, 0.609, 0.030 and 0.030 (the last is the end)."""
    assert set(Fixed(0.0, 1.0, 2.0, -1.0, -1.0).drawn(sampling, 400)) == possible


def test_equals_at_the_edge_of_top_k_are_cut_the_same_way_in_any_batch():
    model = Fixed(1.0, 1.0, 1.0, 1.0, 0.0)
    many = model.drawn(Sampling(top_k=2), 200)
    assert len(many) == 2
    asked = [Continue(str(i), (Text("a"),), "text", 1) for i in range(200)]
    alone = said(model, asked, Sampling(top_k=2), batch_tokens=1)
    assert Counter(g.ids[0] - model.tokens_of("text")[0] for g in alone.values()) == many


def test_the_loglikelihood_is_that_of_the_tokens_and_the_end(tiny):
    for i, g in said(tiny, prompts(6), Sampling(0.5, top_k=5)).items():
        request = next(r for r in prompts(6) if r.id == i)
        context = tiny.encode_prompt(request.prompt, "text")
        sequence = [*context, *g.ids, *([tiny.end] if g.ended else [])]
        with torch.inference_mode():
            logprobs = tiny.logits(tiny.forward(torch.tensor([sequence])).states)[0].log_softmax(-1)
        own = sum(float(logprobs[p - 1, sequence[p]]) for p in range(len(context), len(sequence)))
        assert g.loglikelihood == pytest.approx(own, abs=1e-3)


def test_an_oracle_says_the_truth_and_ends():
    truth = [((Text("one"),), Text(" two")), ((Text("red"),), Text(" green and blue"))]
    requests = [Continue(p[0].text, p, "text", 40) for p, _ in truth]
    found = said(OracleModel(truth), requests, Sampling(0.0))
    assert [found[p[0].text].segments for p, _ in truth] == [(c,) for _, c in truth]
    assert all(g.ended for g in found.values())
    assert all(abs(g.loglikelihood) < 1e-3 for g in found.values())


def test_seeds_and_ids_decide_the_noise(tiny):
    requests = prompts(6)
    assert ids(said(tiny, requests, seed=1)) == ids(said(tiny, requests, seed=1))
    assert ids(said(tiny, requests, seed=1)) != ids(said(tiny, requests, seed=2))
    twins = [Continue(name, (Text("the quick"),), "speech", 12) for name in "abcdefgh"]
    assert len(set(ids(said(UniformModel(), twins)).values())) > 1
    assert len(set(ids(said(UniformModel(), twins, Sampling(0.0))).values())) == 1


# --- limits -----------------------------------------------------------------------------------------------------------


def test_lengths_are_kept():
    model = Fixed(0.0, 0.0, 3.0)  # ends soon
    assert all(len(g.ids) >= 5 for g in said(model, prompts(8, min_new_tokens=5)).values())
    endless = Fixed(0.0, 0.0, -math.inf)
    for i, g in said(endless, prompts(8)).items():
        assert len(g.ids) == 6 + int(i[1:]) % 5
        assert not g.ended


def test_speech_stops_with_the_unit_that_reaches_its_seconds():
    """Units of 0.1 s: the third one reaches 0.25 s. Text is not limited."""
    model = UniformModel()
    asked = [Continue("u", (Text("a"),), "speech", 50, min_new_tokens=50, max_seconds=0.25)]
    assert len(said(model, asked, unit_seconds=0.1)["u"].ids) == 3
    text = [Continue("t", (Text("a"),), "text", 50, min_new_tokens=50, max_seconds=0.25)]
    assert len(said(model, text, unit_seconds=0.1)["t"].ids) == 50
    with pytest.raises(InputError, match="'u' is limited in seconds"):
        said(model, asked)


def test_a_sequence_ends_where_the_model_does():
    model = UniformModel({"text"}, max_length=10)
    asked = [Continue(text, (Text(text),), "text", 50, min_new_tokens=50) for text in ("a", "abcdefgh")]
    found = said(model, asked)
    assert {i: len(g.ids) for i, g in found.items()} == {"a": 8, "abcdefgh": 1}
    full = Continue("full", (Text("abcdefghi"),), "text", 5)
    assert "10 tokens leaves no room" in Generator(model, sampling=Sampling(), seed=0).refusal(full)
    assert Generator(model, sampling=Sampling(), seed=0).refusal(asked[0]) is None
    with pytest.raises(InputError, match=r"'full': a prompt of 10 tokens leaves no room"):
        said(model, [full])


def test_a_context_of_ids_takes_the_place_of_the_prompt(tiny):
    requests = prompts(4)
    given = [
        Continue(r.id, (), r.target, r.max_new_tokens, context=tuple(tiny.encode_prompt(r.prompt, "text")))
        for r in requests
    ]
    assert ids(said(tiny, given)) == ids(said(tiny, requests))


# --- modalities -------------------------------------------------------------------------------------------------------


def test_a_continuation_keeps_to_its_modality_unless_it_may_switch():
    model = UniformModel()
    requests = prompts(20, "speech")
    for g in said(model, requests).values():
        assert not g.switched
        assert {s.modality for s in g.segments} <= {"speech"}
    mixed = said(model, prompts(20, "speech", switching=True), Sampling(1.0))
    assert any(g.switched for g in mixed.values())
    to_text, to_speech = model.encode_prior("speech", "text")[-1], model.encode_prior("text", "speech")[-1]
    for g in mixed.values():
        modality = "speech"
        for token in g.ids:
            if token in (to_text, to_speech):
                assert token == (to_text if modality == "speech" else to_speech)
                modality = "text" if modality == "speech" else "speech"
            else:
                assert token in model.tokens_of(modality)
        assert g.switched == any(i not in model.tokens_of("speech") for i in g.ids)


def test_a_model_of_one_modality_has_nowhere_to_switch_to():
    model = UniformModel({"text"})
    assert not any(g.switched for g in said(model, prompts(5, switching=True)).values())
    with pytest.raises(InputError, match="takes text; it cannot continue in speech"):
        said(model, prompts(2, "speech"))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_requests_that_ask_for_nothing_are_refused(tiny):
    with pytest.raises(InputError, match="at least min and at most max"):
        Continue("a", (Text("b"),), "text", 3, min_new_tokens=4)
    with pytest.raises(InputError, match="1 token or more"):
        Continue("a", (Text("b"),), "text", 0)
    with pytest.raises(InputError, match="Two requests have one id"):
        said(tiny, [prompts(1)[0]] * 2)
    with pytest.raises(InputError, match="no token to start from"):
        said(tiny, [Continue("a", (), "text", 3, context=())])


def test_weights_that_are_not_sound_are_noticed():
    with pytest.raises(CheckpointError, match="no finite logit"):
        said(Fixed(*[math.nan] * 3), prompts(2))


def test_batches_are_smaller_when_memory_runs_out():
    class Small(TinyDecoder):
        def forward(self, ids, **options):
            if ids.numel() > 60:
                raise RuntimeError("can't allocate memory: you tried to allocate 1 byte")
            return super().forward(ids, **options)

    requests = prompts(12)
    assert ids(said(Small(seed=3), requests)) == ids(said(TinyDecoder(seed=3), requests))
    with pytest.raises(OutOfMemoryError, match="Memory ran out at 16 tokens per batch on cpu"):
        said(Small(seed=3), [Continue("long", (Text("a" * 80),), "text", 2)])
