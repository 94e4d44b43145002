"""The contract of model adapters."""
# ruff: noqa: S101 - assertions are what this module is for.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from harness.corpora.corpus import open_corpus
from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.engine.scoring import Scorer
from harness.errors import InputError, UnitSystemError
from harness.model import Model, ModelCard, load_model
from harness.segments import (
    DIRECTIONS,
    AudioSpan,
    Modality,
    Segment,
    Speech,
    Text,
    UnitSpan,
    modalities_of,
)
from harness.task import (
    Loglikelihoods,
    Request,
)
from harness.testing._checks import refuses
from harness.testing.models import BOTH


@dataclass(frozen=True)
class TokenRow:
    """A continuation under its context, as token ids."""

    context: list[int]
    continuation: list[int]

    @property
    def ids(self) -> list[int]:
        """Both, in order."""
        return self.context + self.continuation


class ModelContract:
    """What every model keeps. Subclass it, set `card`, and let pytest collect the subclass.

    Attributes:
        card: a registered model or the path of a card; or override `load`.
        texts: whole words that the model's text tokenizer knows.
        corpus: where speech is taken from, for models that take speech.
        split: of the corpus.
    """

    card: str | Path
    texts: ClassVar[tuple[str, str, str]] = ("the train was late", "and nobody knew why", "we went home")
    corpus: str = "demo"
    split: str = "test"
    _shared: ClassVar[Model]

    @classmethod
    def load(cls) -> Model:
        """A fresh instance of the model."""
        return load_model(str(cls.card))

    @classmethod
    def model(cls) -> Model:
        """The instance that the tests share."""
        if "_shared" not in vars(cls):
            cls._shared = cls.load()
        return cls._shared

    @classmethod
    def segments(cls, modality: Modality) -> list[Segment]:
        """Three things to say: the texts, or the first second of three utterances."""
        if modality == "text":
            return [Text(text) for text in cls.texts]
        corpus = open_corpus(cls.corpus, cls.split)
        return [Speech(AudioSpan(corpus.audio_path(u), 0.0, 1.0)) for u in corpus.utterances[:3]]

    @classmethod
    def rows(cls) -> list[TokenRow]:
        """Two continuations after a prompt and one without, in every direction that the model knows."""
        model, out = cls.model(), []
        for source, target in (modalities_of(d) for d in DIRECTIONS):
            if {source, target} <= model.modalities:
                first = cls.segments(source)[0]
                _, second, third = cls.segments(target)
                model.prepare([first, second, third])
                context, prior = model.encode_prompt((first,), target), model.encode_prior(source, target)
                second_ids, third_ids = model.encode_continuation(second), model.encode_continuation(third)
                out += [TokenRow(context, second_ids), TokenRow(context, third_ids), TokenRow(prior, third_ids)]
        return out

    def test_it_says_what_it_is(self) -> None:
        """Card, modalities and length are stated."""
        model = self.model()
        assert isinstance(model.card, ModelCard)
        assert set() < model.modalities <= BOTH
        assert model.max_length > 0

    def test_it_says_what_continuations_are_made_of(self) -> None:
        """Ascending ids of each modality it takes, its own tokens among them, the end token not."""
        model = self.model()
        modalities: tuple[Modality, ...] = ("speech", "text")
        tokens = {m: list(model.tokens_of(m)) for m in modalities}
        for modality, ids in tokens.items():
            assert bool(ids) == (modality in model.modalities)
            assert ids == sorted(set(ids))
            assert model.end not in ids
        assert not set(tokens["speech"]) & set(tokens["text"])
        for modality in model.modalities:
            for segment in self.segments(modality):
                assert set(model.encode_continuation(segment)) <= set(tokens[modality])

    def test_the_fingerprint_is_the_same_at_every_load(self) -> None:
        """Else no result could be found again."""
        assert self.model().fingerprint
        assert self.load().fingerprint == self.model().fingerprint

    def test_what_is_said_becomes_tokens_within_its_length(self) -> None:
        """Prompt and continuation together; neither is empty."""
        for row in self.rows():
            assert row.context, "the first token needs something to be predicted from"
            assert row.continuation
            assert len(row.ids) <= self.model().max_length

    def test_the_prior_is_the_context_without_the_prompt(self) -> None:
        """It starts as prompts do, and ends as they do where the modality changes."""
        model = self.model()
        for source, target in (modalities_of(d) for d in DIRECTIONS):
            if {source, target} <= model.modalities:
                prior = model.encode_prior(source, target)
                context = model.encode_prompt((self.segments(source)[0],), target)
                assert context[0] == prior[0]
                assert len(context) > len(prior)
                assert source == target or context[-1] == prior[-1], f"{source} → {target} ends in no switch"

    def test_text_comes_back_from_its_tokens(self) -> None:
        """`decode` undoes `encode_continuation`."""
        model = self.model()
        if "text" not in model.modalities:
            return
        for segment in self.segments("text"):
            assert model.decode(model.encode_continuation(segment)) == (segment,)

    def test_units_come_back_from_their_tokens(self) -> None:
        """But for how long each lasted."""
        model = self.model()
        if "speech" not in model.modalities:
            return
        ids = model.encode_continuation(self.segments("speech")[0])
        (segment,) = model.decode(ids)
        assert isinstance(segment, Speech)
        assert model.encode_continuation(segment) == ids

    def test_states_and_logits_have_their_shapes(self) -> None:
        """`(batch, time, width)` and `(…, vocabulary)`, with every id inside the vocabulary."""
        model, rows = self.model(), self.rows()[:2]
        ids, lengths = _padded(model, [r.ids for r in rows])
        states = model.forward(ids, lengths=lengths).states
        assert states.shape[:2] == ids.shape
        logits = model.logits(states)
        assert logits.shape[:-1] == ids.shape
        assert logits.shape[-1] > int(ids.max())
        assert torch.isfinite(logits[0, : lengths[0]]).all()

    def test_likelihoods_do_not_depend_on_the_batch(self) -> None:
        """Neither on padding nor on what else is in it, to 1e-4."""
        rows = self.rows()
        alone = [_loglikelihoods(self.model(), [row])[0] for row in rows]
        _assert_close(_loglikelihoods(self.model(), rows), alone)
        assert max(alone) <= 1e-4, "a loglikelihood is at most 0"

    def test_likelihoods_do_not_depend_on_what_padding_holds(self) -> None:
        """`lengths` says what is padding, not an id."""
        rows = self.rows()
        _assert_close(_loglikelihoods(self.model(), rows, padding=1), _loglikelihoods(self.model(), rows))

    def test_the_future_does_not_reach_back(self) -> None:
        """Logits before a token are the same whatever the token is."""
        model, row = self.model(), self.rows()[0]
        ids = torch.tensor([row.ids], device=model.device)
        changed = ids.clone()
        changed[0, -1] = row.ids[0]
        before, after = (model.logits(model.forward(i).states)[0, :-1].float() for i in (ids, changed))
        assert torch.allclose(before, after, atol=1e-4)

    def test_a_kv_cache_changes_nothing(self) -> None:
        """A prompt first and its continuation after, or both at once."""
        model, row = self.model(), self.rows()[0]
        ids = torch.tensor([row.ids], device=model.device)
        at = len(row.context)
        with torch.inference_mode():
            whole = model.logits(model.forward(ids).states)[0, at:].float()
            past = model.forward(ids[:, :at], use_cache=True).past
            rest = model.logits(model.forward(ids[:, at:], past=past).states)[0].float()
        assert torch.allclose(whole, rest, atol=1e-4)

    def test_rows_go_on_each_at_its_own_length(self) -> None:
        """Nothing attends to padding in the cache, and rows can leave; or `past` has no `select`."""
        model, rows = self.model(), self.rows()[:3]
        sequences = [row.ids[: len(row.context) + place] for place, row in enumerate(rows)]
        ids, lengths = _padded(model, sequences)
        with torch.inference_mode():
            past = model.forward(ids, lengths=lengths, use_cache=True).past
            if not hasattr(past, "select") or isinstance(past, Tensor):
                return
            chosen = list(range(len(rows)))[::-2]
            past = past.select(torch.tensor(chosen, device=model.device))
            for added in ([rows[0].ids[-1]], [rows[0].ids[-1], rows[0].ids[0]]):
                last = torch.tensor([added[-1:]] * len(chosen), device=model.device)
                hidden = model.forward(last, past=past, use_cache=True)
                past = hidden.past
                for place, state in zip(chosen, hidden.states, strict=True):
                    whole = model.forward(torch.tensor([sequences[place] + added], device=model.device)).states
                    expected, found = model.logits(whole[0, -1]).float(), model.logits(state[-1]).float()
                    assert torch.allclose(expected, found, atol=1e-4), f"row {place} after {len(added)} tokens"

    def test_a_generator_says_the_same_in_any_batch(self) -> None:
        """And only what it may say."""
        model = self.model()
        for target in sorted(model.modalities):
            asked = [Continue(f"{i}", (s,), target, 4 + i) for i, s in enumerate(self.segments(target))]
            alone, together = (
                {r.id: g.ids for r, g in Generator(model, sampling=Sampling(), seed=0, batch_tokens=n).generate(asked)}
                for n in (1, 8192)
            )
            assert alone == together
            assert {i for ids in alone.values() for i in ids} <= set(model.tokens_of(target))

    def test_a_scorer_finds_the_same_likelihoods(self) -> None:
        """Whatever it shares between candidates."""
        model = self.model()
        for source, target in (modalities_of(d) for d in DIRECTIONS):
            if {source, target} <= model.modalities:
                _assert_close(*_scored_and_plain(model, self.segments(source)[0], tuple(self.segments(target))))

    def test_units_of_another_system_are_refused(self) -> None:
        """So is speech by a model that takes none."""
        stranger = Speech(units=UnitSpan((0, 1), (1, 1), 50.0, "the units of somebody else"))
        expected = UnitSystemError if "speech" in self.model().modalities else InputError
        assert refuses(lambda: self.model().encode_continuation(stranger), expected)


def _scored_and_plain(model: Model, prompt: Segment, pool: tuple[Segment, ...]) -> tuple[list[float], list[float]]:
    target = pool[0].modality
    request = Request("r", (prompt,), prompt.modality, target, pool, tuple(range(len(pool))))
    [(_, answer)] = Scorer(model).answer([request])
    assert isinstance(answer, Loglikelihoods), answer
    context = model.encode_prompt((prompt,), target)
    plainly = _loglikelihoods(model, [TokenRow(context, model.encode_continuation(s)) for s in pool])
    return [float(v) for v in answer.values], plainly


def _assert_close(found: Sequence[float], expected: Sequence[float]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert abs(a - b) <= 1e-4 * max(1.0, abs(b)), f"{a} nats, alone {b}"


def _padded(model: Model, sequences: Sequence[Sequence[int]], padding: int = 0) -> tuple[Tensor, Tensor]:
    lengths = [len(s) for s in sequences]
    rows = [[*s, *[padding] * (max(lengths) - len(s))] for s in sequences]
    return torch.tensor(rows, device=model.device), torch.tensor(lengths, device=model.device)


@torch.inference_mode()
def _loglikelihoods(model: Model, rows: Sequence[TokenRow], *, padding: int = 0) -> list[float]:
    ids, lengths = _padded(model, [r.ids for r in rows], padding)
    logprobs = model.logits(model.forward(ids, lengths=lengths).states).float().log_softmax(-1)
    out = []
    for line, row in zip(logprobs, rows, strict=True):
        places = range(len(row.context) - 1, len(row.ids) - 1)
        out.append(sum(float(line[place, token]) for place, token in zip(places, row.continuation, strict=True)))
    return out
