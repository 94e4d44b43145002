"""What a model reads of an utterance before it answers, and the answers that it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from harness.engine.finetuned_model import FineTunedModel
from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.model import Model
from harness.segments import Prompt, Segment, Text

from ._transfer_options import MODALITIES


def text_of(segments: Prompt) -> str:
    """The words of the text among segments."""
    return " ".join(word for s in segments if isinstance(s, Text) for word in s.text.split())


def start_of_text(model: Model) -> list[int]:
    """What a text begins with in models of both modalities; in one of text alone an answer goes on in the same text."""
    return model.encode_prior("text", "text") if set(MODALITIES) <= model.modalities else []


def utterance_ids(model: Model, segment: Segment) -> list[int]:
    """An utterance, and where the model knows text, in which answers are, what says that text follows."""
    if "text" not in model.modalities:
        return model.encode_prompt((segment,), segment.modality)
    ids = model.encode_prompt((segment,), "text")
    # After text too where there is such a token: what an answer follows is then the same in both modalities.
    both = segment.modality == "text" and "speech" in model.modalities
    return [*ids, *_switch_to_text(model)] if both else ids


def _switch_to_text(model: Model) -> list[int]:
    """What stands between speech and text."""
    return model.encode_prior("speech", "text")[len(model.encode_prior("speech", "speech")) :]


def greedy_decode(
    tuned: FineTunedModel,
    context: Callable[[Model, Mapping[str, int], Segment], list[int]],
    segments: Mapping[str, Segment],
    longest: int,
    batch_tokens: int,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The likeliest tokens one by one after the context of each segment, at most `longest`, without the end."""
    generator = Generator(tuned, sampling=Sampling(temperature=0), seed=0, batch_tokens=batch_tokens)
    requests = [
        Continue(i, (s,), "text", longest, context=tuple(context(tuned, tuned.tokens, s))) for i, s in segments.items()
    ]
    for request, generated in generator.generate(requests):
        yield request.id, generated.ids
