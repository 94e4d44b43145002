"""The protocol of PELM."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.engine.sampling import Sampling
from harness.errors import OptionError
from harness.segments import DIRECTIONS, Direction

#: What the external model reads before the continuation: nothing, or the prompt's reference text.
SCOPES = ("alone", "given_prompt")
#: What is judged beside the model's outputs.
LEVELS = ("reference_text", "reference_units", "shuffled_reference")


@dataclass(frozen=True, config=STRICT)
class PelmOptions:
    """The protocol of PELM.

    Attributes:
        n: prompts, drawn by seed from the split; `--limit` overrides it.
        seeds: continuations of each prompt.
        directions: prompt modality → continuation modality, u speech units, t text.
        transcriber: model that turns units into text; its units are those of the model under evaluation.
        lm: external language model of text.
        force: lets the model under evaluation be its own judge.
        temperature: of sampling; 0 takes the likeliest token.
        top_k: only the k likeliest tokens; None: no limit.
        top_p: only the likeliest tokens that together reach this probability.
        scan: further temperatures, one continuation a prompt each, to find the perplexity at the reference's VERT;
            none leaves that out.
        vert_slack: outputs count as repeating no more than the references up to a VERT higher by this (per cent).
        min_new_tokens: the model may not end a continuation before.
        max_new_tokens: a continuation is no longer.
        max_seconds: of speech, by the mean length of a unit in the true continuations; None: no limit.
        switching: whether the model may switch modality; what it then says in the other one is dropped.
        normalizer: of all texts before they are judged: `words` keeps lower-case words of letters, digits and
            apostrophes, `none` keeps texts as they are.
        min_words: shortest utterance that is cut.
        audio: prompts a direction whose spoken continuation becomes audio to listen to, where the model's own tokenizer
            can look its units up in other recordings of the speaker; 0 makes none. Has no effect on results.
    """

    n: int = 100
    seeds: int = 3
    directions: tuple[Direction, ...] = DIRECTIONS
    # Names; what counts is in the protocol: the fingerprints of these models.
    transcriber: str = field(default="transcriber-tiny", metadata={"changes_numbers": False})
    lm: str = field(default="textlm-tiny", metadata={"changes_numbers": False})
    force: bool = field(default=False, metadata={"changes_numbers": False})
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    scan: tuple[float, ...] = (0.4, 1.2, 1.6, 2.0)
    vert_slack: float = 5.0
    min_new_tokens: int = 0
    max_new_tokens: int = 64
    max_seconds: float | None = None
    switching: bool = False
    normalizer: Literal["words", "none"] = "words"
    min_words: int = 4
    audio: int = field(default=4, metadata={"changes_numbers": False})

    def __post_init__(self) -> None:
        if self.n < 2 or self.seeds < 1 or self.min_words < 2 or self.audio < 0:
            raise OptionError(
                f"PELM needs n ≥ 2 prompts, seeds ≥ 1, min_words ≥ 2 and audio ≥ 0; found n={self.n}, "
                f"seeds={self.seeds}, min_words={self.min_words}, audio={self.audio}."
            )
        if self.temperature in self.scan or len(set(self.scan)) < len(self.scan):
            raise OptionError(f"pelm.scan holds further temperatures than {self.temperature:g}; found {self.scan}.")
        for temperature in (self.temperature, *self.scan):
            self.sampling(temperature)

    def sampling(self, temperature: float) -> Sampling:
        """How continuations are drawn at a temperature."""
        return Sampling(temperature, self.top_k, self.top_p)

    def normalize(self, text: str) -> str:
        """A text as it is judged."""
        return " ".join(re.findall(r"[\w']+", text.lower())) if self.normalizer == "words" else text
