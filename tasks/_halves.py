"""Utterances cut in two at the word boundary nearest their middle: a prompt and what continues it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.corpora.corpus import Corpus
from harness.corpora.manifest import Utterance
from harness.errors import CorpusError
from harness.segments import AudioSpan, Modality, Segment, Speech, Text


@dataclass(frozen=True)
class Halves:
    """The two halves of an utterance.

    Attributes:
        id: of the utterance.
        speaker: of the utterance.
        prompt: first half, by modality.
        continuation: second half, by modality.
        seconds: length of the spoken second half; 0 where only text was cut.
        audio: of the whole utterance, relative to the corpus; empty where only text was cut.
    """

    id: str
    speaker: str
    prompt: Mapping[Modality, Segment]
    continuation: Mapping[Modality, Segment]
    seconds: float
    audio: str = ""


def cut_in_halves(corpus: Corpus, utterance: Utterance, *, needs_times: bool, instead: str) -> Halves:
    """The halves of an utterance of two words or more: in time where its words have times, else by words, text alone.

    Args:
        corpus: that it belongs to.
        utterance: what is cut.
        needs_times: whether speech has to be cut too.
        instead: what the user can set to do without times, for the message.

    Raises:
        CorpusError: if times are needed and there are none.
    """
    if utterance.words is None:
        if needs_times:
            raise CorpusError(
                f"Utterance '{utterance.id}' of {corpus.name}:{corpus.split} has no word times, so its speech cannot "
                f"be cut at a word boundary; add alignments, or set {instead}."
            )
        words = utterance.text.split()
        middle = len(words) // 2
        first, second = Text(" ".join(words[:middle])), Text(" ".join(words[middle:]))
        return Halves(utterance.id, utterance.speaker, {"text": first}, {"text": second}, 0.0)
    words = [w.word for w in utterance.words]
    starts = [w.start for w in utterance.words]
    middle = min(range(1, len(words)), key=lambda k: abs(starts[k] - utterance.seconds / 2))
    at, path = starts[middle], corpus.audio_path(utterance)
    prompt: dict[Modality, Segment] = {
        "text": Text(" ".join(words[:middle])),
        "speech": Speech(AudioSpan(path, 0.0, at)),
    }
    continuation: dict[Modality, Segment] = {
        "text": Text(" ".join(words[middle:])),
        "speech": Speech(AudioSpan(path, at, None)),
    }
    seconds = utterance.seconds - at
    return Halves(utterance.id, utterance.speaker, prompt, continuation, seconds, utterance.audio)


def with_distinct_continuations(halves: Sequence[Halves]) -> list[Halves]:
    """Those whose second half no earlier one has in the same words: twins cannot be told apart."""
    first = {transcript(h.continuation): h.id for h in reversed(halves)}
    return [h for h in halves if first[transcript(h.continuation)] == h.id]


def transcript(half: Mapping[Modality, Segment]) -> str:
    """The words of a half."""
    text = half["text"]
    return text.text if isinstance(text, Text) else ""


def num_words(utterance: Utterance) -> int:
    """How many words an utterance can be cut between."""
    return len(utterance.words) if utterance.words is not None else len(utterance.text.split())
