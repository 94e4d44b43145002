"""The contract of models finds nothing wrong with a sound one, and notices each kind of mistake."""

import itertools

import pytest
import torch

from harness.model import Hidden
from harness.segments import Speech, Text
from harness.testing import ModelContract, UniformModel


class Sound(UniformModel):
    """Predicts from the last token alone, and sees nothing else."""

    def __init__(self):
        super().__init__({"text"})

    def _states(self, ids):
        return ids.float()

    def logits(self, states):
        return torch.cos(states * torch.arange(312.0))


class SeesTheFuture(Sound):
    def _states(self, ids):
        return ids.float() + ids[:, -1:]


class SeesPadding(Sound):
    def _states(self, ids):
        return ids.float() + ids.shape[1]


class SeesWhatPaddingHolds(Sound):
    def _states(self, ids):
        return ids.float() + ids.sum(1, keepdim=True)


class Forgets(Sound):
    def forward(self, ids, *, lengths=None, past=None, use_cache=False):
        return Hidden(ids.float().cumsum(1)[..., None], True if use_cache else None)


class IsAlwaysAnother(Sound):
    loads = itertools.count()

    def __init__(self):
        super().__init__()
        self.fingerprint = str(next(self.loads))


class Shouts(Sound):
    def decode(self, ids):
        return tuple(Text(s.text.upper()) for s in super().decode(ids))


class TakesAnyUnits(Sound):
    def encode_continuation(self, segment):
        return [0] if isinstance(segment, Speech) else super().encode_continuation(segment)


class ForgetsToStart(Sound):
    def encode_prompt(self, prompt, target):
        return super().encode_prompt(prompt, target)[1:]


class HasNoPrior(Sound):
    def encode_prior(self, source, target):
        return []


class IsTooShort(Sound):
    def __init__(self):
        super().__init__()
        self.max_length = 20


class IsNotFinite(Sound):
    def logits(self, states):
        return super().logits(states).log()


def contract_for(model):
    return type("Contract", (ModelContract,), {"load": classmethod(lambda cls: model())})()


@pytest.mark.parametrize("promise", [name for name in dir(ModelContract) if name.startswith("test_")])
def test_the_contract_finds_nothing_wrong_with_a_sound_model(promise):
    getattr(contract_for(Sound), promise)()


@pytest.mark.parametrize(
    ("model", "promise"),
    [
        (SeesTheFuture, "the_future_does_not_reach_back"),
        (SeesPadding, "likelihoods_do_not_depend_on_the_batch"),
        (SeesWhatPaddingHolds, "likelihoods_do_not_depend_on_what_padding_holds"),
        (Forgets, "a_kv_cache_changes_nothing"),
        (IsAlwaysAnother, "the_fingerprint_is_the_same_at_every_load"),
        (Shouts, "text_comes_back_from_its_tokens"),
        (TakesAnyUnits, "units_of_another_system_are_refused"),
        (ForgetsToStart, "the_prior_is_the_context_without_the_prompt"),
        (HasNoPrior, "what_is_said_becomes_tokens_within_its_length"),
        (IsTooShort, "what_is_said_becomes_tokens_within_its_length"),
        (IsNotFinite, "states_and_logits_have_their_shapes"),
    ],
)
def test_the_contract_notices(model, promise):
    with pytest.raises(AssertionError):
        getattr(contract_for(model), f"test_{promise}")()
