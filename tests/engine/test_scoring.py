"""The scoring engine against a loop over pairs: whatever the batch, the order, the pruning and the architecture."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from harness.engine import blocks, candidates, linear, scoring
from harness.engine.attention import PackedDecoder
from harness.engine.scoring import Scorer
from harness.errors import HarnessError, InputError
from harness.metrics.retrieval import normalize, rank_of_gold
from harness.model import Hidden, card_names, read_card
from harness.segments import Text
from harness.task import Loglikelihoods, Ranking, RankScore, Request, Unscorable
from tests.engine import reference

VOCABULARY = 24
TIE = 1e-4
#: Tokens that a model can hardly tell apart: sequences of them tie, or nearly.
TWINS = (5, 6)


@pytest.fixture(scope="module", autouse=True)
def as_if_large():
    """Small cases take what large ones do: many rounds, linear layers by oneDNN except in passes of few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_PASS_OVERHEAD", 1)
        patch.setattr(linear, "_NARROWEST", 1)
        patch.setattr(linear, "_FEWEST_ROWS", 20)
        yield


class TokenModel:
    """A decoder of transformers whose texts are token numbers."""

    def __init__(self, module, max_length=64):
        self.inner, self.module, self.max_length = module, module, max_length
        self.device, self.modalities = torch.device("cpu"), frozenset({"text"})

    def prepare(self, segments):
        pass

    def encode_prompt(self, prompt, target):
        return [1, *(i for s in prompt for i in self.encode_continuation(s))]

    def encode_prior(self, source, target):
        return [1]

    def encode_continuation(self, segment):
        return [int(i) for i in segment.text.split()]

    def forward(self, ids, *, lengths=None, past=None, use_cache=False):
        mask = None if lengths is None else (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return Hidden(self.inner.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state)

    def logits(self, states):
        return self.inner.lm_head(states)


def module(kind):
    common = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 64}
    llama = {**common, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    if kind == "opt":
        config = OPTConfig(**common, ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=32)
        return sharpened(OPTForCausalLM(config))
    if kind == "gpt2":
        return sharpened(
            GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64))
        )
    if kind == "llama":
        return sharpened(LlamaForCausalLM(LlamaConfig(**llama)))
    if kind == "qwen2":
        return sharpened(Qwen2ForCausalLM(Qwen2Config(**llama)))
    window = {"sliding": 4, "wide": 64}[kind]
    return sharpened(MistralForCausalLM(MistralConfig(**llama, sliding_window=window)))


@torch.no_grad()
def sharpened(decoder):
    """Random weights that prefer some tokens clearly, and cannot tell the twins apart."""
    for weights in decoder.parameters():
        if weights.ndim > 1:
            weights.mul_(4)
    for table in (decoder.get_input_embeddings().weight, decoder.lm_head.weight):
        table[TWINS[1]] = table[TWINS[0]] * (1 + 1e-6)
    return decoder.eval()


@pytest.fixture(scope="module", params=["opt", "llama"])
def model(request):
    return TokenModel(module(request.param))


@pytest.fixture(scope="module")
def opt():
    return TokenModel(module("opt"))


def text(ids):
    return Text(" ".join(map(str, ids)))


def draw_text(draw, shortest, longest):
    return [draw.randrange(2, VOCABULARY) for _ in range(draw.randint(shortest, longest))]


def draw_pool(draw, size):
    """Continuations some of which are equal, begin alike, or differ in twins only."""
    pool = [draw_text(draw, 1, 12)]
    while len(pool) < size:
        old = draw.choice(pool)
        swapped = [TWINS[1] if i == TWINS[0] else i for i in old]
        beginning = old[: draw.randint(1, len(old))]
        pool.append(draw.choice([draw_text(draw, 1, 12), beginning + draw_text(draw, 0, 4), swapped, old]))
    return tuple(map(text, pool))


def cases(seed, *, size=8, prompts=3):
    """Requests over one pool: the prior, then prompts ranked by four scores."""
    draw = random.Random(seed)
    pool = draw_pool(draw, size)
    extents = tuple(draw.uniform(0.5, 3.0) for _ in pool)
    scores = (
        RankScore(tolerance=TIE),
        RankScore("tokens"),
        RankScore(extents),
        RankScore(prior="prior", tolerance=TIE),
    )
    requests = [Request("prior", (), "text", "text", pool, tuple(range(size)))]
    for i in range(prompts):
        chosen = tuple(draw.sample(range(size), draw.randint(1, size)))
        ranking = Ranking(draw.randrange(len(chosen)), scores)
        requests.append(Request(f"p{i}", (text(draw_text(draw, 1, 20)),), "text", "text", pool, chosen, ranking))
    return requests, np.array(extents)


def answers(model, requests, **options):
    return {r.id: a for r, a in Scorer(model, **options).answer(requests)}


def complete(answer):
    return np.ones(len(answer.values), dtype=bool) if answer.complete is None else answer.complete


def check(model, requests, extents, found):
    """Complete values are the oracle's, the others bounds, and every rank is the oracle's, ties aside."""
    prior = reference.loglikelihoods(model, requests[0])
    np.testing.assert_allclose(found["prior"].values, prior, rtol=1e-4)
    for request in requests[1:]:
        expected, answer = reference.loglikelihoods(model, request), found[request.id]
        done, chosen = complete(answer), list(request.chosen)
        np.testing.assert_allclose(answer.values[done], expected[done], rtol=1e-4)
        assert (answer.values >= expected - 1e-3).all()
        for name, tolerance in {"sum": TIE, "token_norm": 0.0, "extent_norm": 0.0, "pmi": TIE}.items():
            known = {"num_tokens": answer.num_tokens, "extent": extents[chosen], "prior": prior[chosen]}
            ranks = rank_of_gold(normalize(answer.values, name, **known), request.ranking.gold, tolerance=tolerance)
            truth = normalize(expected, name, **known)
            # Scores at the edge of a tie may fall on either side by rounding.
            least, _ = reference.ranks(truth, request.ranking.gold, tolerance + 2e-5)
            assert least <= ranks.better, (request.id, name)
            assert ranks.better + ranks.tied <= sum(reference.ranks(truth, request.ranking.gold, tolerance + 2e-5))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch_tokens=st.sampled_from([1, 7, 40, 256, 8192]),
    pass_tokens=st.sampled_from([1, 20, 2048]),
    overhead=st.sampled_from([0, 3, 10, 10**6]),
    prune=st.booleans(),
)
def test_answers_are_those_of_a_loop_over_pairs(model, seed, batch_tokens, pass_tokens, overhead, prune):
    requests, extents = cases(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_PASS_OVERHEAD", overhead)
        patch.setattr(scoring, "pass_tokens", lambda model: pass_tokens)
        found = answers(model, requests, batch_tokens=batch_tokens, prune=prune)
    check(model, requests, extents, found)


@pytest.mark.parametrize("guess", ["nothing", "at random", "everything"])
def test_guesses_at_who_leaves_when_change_no_answer(model, monkeypatch, guess):
    draw, wanted = random.Random(0), candidates.CandidateGroup.wanted

    def guessed(group):
        most, least = group.lengths - group.known, np.minimum(wanted(group), 1)
        other = {"nothing": least, "everything": most, "at random": [draw.randint(0, n) for n in most]}[guess]
        return np.where(wanted(group) > 0, np.maximum(least, other), 0)

    monkeypatch.setattr(candidates.CandidateGroup, "wanted", guessed)
    requests, extents = cases(21, size=20)
    check(model, requests, extents, answers(model, requests, batch_tokens=60))


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_a_gpu_gives_the_answers_of_the_processor(opt, dtype, close):
    there = TokenModel(module("opt").to("cuda", dtype))
    there.device = torch.device("cuda")
    requests, _ = cases(3)
    here = answers(opt, requests, prune=False)
    scorer = Scorer(there, prune=False)
    assert scorer.work.shared_prefix
    for request, found in scorer.answer(requests):
        np.testing.assert_allclose(found.values, here[request.id].values, rtol=close, atol=close)


def test_logits_far_apart_do_not_overflow(opt, monkeypatch):
    monkeypatch.setattr(opt, "logits", lambda states: opt.inner.lm_head(states) * 1e4)
    requests, _ = cases(7)
    expected = reference.loglikelihoods(opt, requests[0])
    assert expected.min() < -1e4
    np.testing.assert_allclose(answers(opt, requests[:1])["prior"].values, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "wide"])
def test_other_architectures_share_prompts_too(kind):
    model = TokenModel(module(kind))
    assert PackedDecoder.of(model) is not None
    requests, extents = cases(3)
    check(model, requests, extents, answers(model, requests, batch_tokens=64))


def test_attention_within_a_window_is_left_to_the_model():
    model = TokenModel(module("sliding"))
    assert PackedDecoder.of(model) is None
    requests, extents = cases(4)
    check(model, requests, extents, answers(model, requests))


def test_models_without_a_decoder_are_scored_pair_by_pair(opt):
    plain = TokenModel(module("opt"))
    plain.module = None
    requests, extents = cases(5)
    scorer = Scorer(plain, batch_tokens=50)
    check(plain, requests, extents, {r.id: a for r, a in scorer.answer(requests)})
    assert not scorer.work.shared_prefix


def test_a_model_that_changes_its_states_is_not_shared(opt):
    class Doubled(TokenModel):
        def forward(self, ids, **options):
            return Hidden(super().forward(ids, **options).states * 2)

    model = Doubled(module("opt"))
    requests, extents = cases(6)
    check(model, requests, extents, answers(model, requests))


def test_pruning_leaves_candidates_unfinished_and_saves_tokens(opt):
    requests, _ = cases(1, size=30, prompts=8)
    # The gold is what the model itself finds likely.
    full = answers(opt, requests, prune=False)
    best = [
        Request(**{**fields(r), "ranking": Ranking(int(full[r.id].values.argmax()), r.ranking.scores[:1])})
        for r in requests[1:]
    ]
    scorer, plain = Scorer(opt), Scorer(opt, prune=False)
    for request, answer in scorer.answer(best):
        gold = request.ranking.gold
        assert complete(answer)[gold]
        assert (answer.values[~complete(answer)] < answer.values[gold] - TIE).all()
    list(plain.answer(best))
    assert scorer.work.unfinished > scorer.work.pairs / 2
    assert scorer.work.tokens < plain.work.tokens


def fields(request):
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


def test_equal_continuations_tie_exactly(opt):
    pool = (text([5, 9, 9]), text([7, 8]), text([5, 9, 9]))
    request = Request("a", (text([3, 4]),), "text", "text", pool, (0, 1, 2))
    values = answers(opt, [request], batch_tokens=3)["a"].values
    assert values[0] == values[2]


def test_the_order_of_requests_changes_nothing(model):
    requests, _ = cases(8)
    found = answers(model, requests, batch_tokens=60)
    back = answers(model, [requests[0], *requests[:0:-1]], batch_tokens=60)
    for name, answer in found.items():
        np.testing.assert_allclose(back[name].values[complete(answer)], answer.values[complete(answer)], rtol=1e-5)


def test_work_is_counted(opt):
    """Two prompts of 1 + 3 tokens, three candidates of 2, 2 and 4 tokens; the first two begin alike.

    Each pair by itself: 2 · (3 · 4 + 8) = 40 tokens, of which 16 are candidates'. All are wanted, so the floor is
    2 · (4 + 8) = 24. Read are the prompts, 2 · 4, and candidates without their last tokens, 2 · (1 + 1 + 3), of which
    the two that begin alike share 1: 8 + 2 · 4 = 16.
    """
    pool = (text([5, 7]), text([5, 8]), text([9, 8, 7, 6]))
    requests = [Request(p, (text([2, 3, int(p)]),), "text", "text", pool, (0, 1, 2)) for p in ("4", "5")]
    scorer = Scorer(opt)
    list(scorer.answer(requests))
    work = scorer.work
    assert (work.pairs, work.pair_tokens, work.candidate_tokens, work.floor, work.tokens) == (6, 40, 16, 24, 16)


def test_the_module_gets_its_attention_back(opt):
    before = opt.module.config._attn_implementation
    requests, _ = cases(2)
    for _ in Scorer(opt, batch_tokens=1).answer(requests):
        assert opt.module.config._attn_implementation == before


@pytest.mark.parametrize(
    ("prompt", "continuation", "reason"),
    [([2] * 60, [3] * 6, "67 tokens, the model reads at most 64"), ([2], [], "continuation 1 of 2 has no tokens")],
)
def test_what_cannot_be_scored_says_why(opt, prompt, continuation, reason):
    request = Request("a", (text(prompt),), "text", "text", (text([4]), text(continuation)), (0, 1))
    other = Request("b", (text([2]),), "text", "text", request.pool, (0,))
    found = answers(opt, [request, other])
    assert isinstance(found["a"], Unscorable)
    assert reason in found["a"].reason
    assert isinstance(found["b"], Loglikelihoods)


def test_ranking_needs_its_prior_first(opt):
    requests, _ = cases(2)
    with pytest.raises(InputError, match="ranked against 'prior', which is not answered before it"):
        answers(opt, requests[1:])
    prior = answers(opt, requests[:1])
    found = {r.id: a for r, a in Scorer(opt).answer(requests[1:], known=prior)}
    assert set(found) == {r.id for r in requests[1:]}


def test_without_a_prior_there_is_no_rank(opt):
    requests, _ = cases(2)
    found = {r.id: a for r, a in Scorer(opt).answer(requests[1:], known={"prior": Unscorable("too long")})}
    assert set(found.values()) == {Unscorable("too long")}


def test_a_score_is_not_divided_by_nothing():
    with pytest.raises(InputError, match=r"found 0.0 for continuation 1 of the pool"):
        RankScore((1.0, 0.0))


def test_batches_need_tokens(opt):
    with pytest.raises(InputError, match="≥ 1 token"):
        Scorer(opt, batch_tokens=0)


@pytest.fixture
def small_memory(opt):
    """Makes the decoder fail on passes of more than so many tokens."""
    limit = [10**9]

    def fail(_, __, inputs):
        if inputs["input_ids"].numel() > limit[0]:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate …")

    hook = opt.module.base_model.register_forward_pre_hook(fail, with_kwargs=True)
    yield limit
    hook.remove()


def test_batches_are_smaller_when_memory_runs_out(opt, small_memory):
    requests, extents = cases(11, prompts=6)
    small_memory[0] = 60
    scorer = Scorer(opt, batch_tokens=1000)
    check(opt, requests, extents, {r.id: a for r, a in scorer.answer(requests)})
    assert scorer.work.out_of_memory_retries > 0
    assert scorer.batch_tokens <= 125


def test_memory_for_no_prompt_is_an_error(opt, small_memory):
    requests, _ = cases(11)
    scorer = Scorer(opt)
    small_memory[0] = 0
    with pytest.raises(HarnessError, match="Memory ran out at 16 tokens per batch"):
        list(scorer.answer(requests))
    assert opt.module.config._attn_implementation != "shared_prefix"


def test_other_errors_are_not_taken_for_lack_of_memory(opt, monkeypatch):
    def fail(_):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(opt, "logits", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        answers(opt, cases(1)[0])


def test_linear_layers_multiply_by_onednn_while_scoring_alone(opt):
    requests, _ = cases(2)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        list(Scorer(opt).answer(requests))
    names = {event.key for event in found.key_averages()}
    assert {"mkldnn::_reorder_linear_weight", "mkldnn::_linear_pointwise", "aten::addmm"} <= names
    assert not [layer for layer in opt.module.modules() if "forward" in vars(layer)]


def test_cra_has_the_same_numbers_with_and_without_pruning():
    from harness.corpora.corpus import open_corpus
    from harness.task import task_registry
    from harness.testing import UniformModel, measure

    speaker = UniformModel(max_length=512)
    torch.manual_seed(0)
    size = speaker.logits(torch.zeros(1)).shape[-1]
    config = OPTConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=1, ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=32,
        max_position_embeddings=512,
    )  # fmt: skip
    decoder = TokenModel(sharpened(OPTForCausalLM(config)))
    speaker.module, speaker.forward, speaker.logits = decoder.module, decoder.forward, decoder.logits  # type: ignore[method-assign]
    task, corpus = task_registry().load("cra"), open_corpus("demo", "test")
    pruned, full = (measure(task, speaker, corpus, task.Options(n=6, full_scores=f)).metrics for f in (False, True))
    one = measure(task, speaker, corpus, task.Options(n=6, scores=("pmi",))).metrics
    assert {k for k in full if k not in pruned} == {k for k in full if k.endswith("candidate_ce")}
    assert {k for k in pruned if k not in one} == {
        k for k in pruned if k.split(".")[2] in ("sum", "token_norm", "extent_norm")
    }
    for name, metric in [*pruned.items(), *one.items()]:
        assert metric.value == pytest.approx(full[name].value, rel=1e-4), name


@pytest.mark.slow
@pytest.mark.skipif(
    "sutlm-tiny" not in card_names() or not read_card("sutlm-tiny").available, reason="the shipped weights are absent"
)
def test_the_shipped_model_ranks_alike_with_and_without_pruning():
    from harness.corpora.corpus import open_corpus
    from harness.model import load_model
    from harness.task import task_registry

    model, task = load_model("sutlm-tiny"), task_registry().load("cra")
    options = task.Options()
    examples = task.examples(open_corpus("demo", "test"), options, limit=12, seed=0)
    requests = task.requests(examples, options, modalities=model.modalities)
    pruned, full = answers(model, requests), answers(model, requests, batch_tokens=97, prune=False)
    items = [task.score(examples, options, found) for found in (pruned, full)]
    for a, b in zip(*items, strict=True):
        assert a.scores["ranks"] == b.scores["ranks"]
        assert a.scores["gold_nll"] == pytest.approx(b.scores["gold_nll"], rel=1e-4)
    for request in random.Random(0).sample(list(requests), 3):
        np.testing.assert_allclose(full[request.id].values, reference.loglikelihoods(model, request), rtol=1e-4)
