"""Models of words whose continuations are known beforehand: a bigram model, and a parrot that says its prompt again.

The card's adapter is `<this file>:MODEL`; its options are `kind` and `text`, a file of one sentence a line.
"""

from __future__ import annotations

import itertools

import torch

from harness.config import digest
from harness.errors import InputError
from harness.model import Hidden
from harness.segments import Text

START, END, UNKNOWN = range(3)
#: Logits of what the parrot says next, the others' being 0.
SURE = 9.0


class Words:
    """Text only. `bigram` says what followed a word in its text; `parrot` says the word `period` places back."""

    modalities, module, max_length, end = frozenset({"text"}), None, 512, END

    def __init__(self, card, *, device="cpu"):
        self.card, self.device = card, torch.device(device)
        self.kind, self.period = card.options["kind"], card.options.get("period", 4)
        lines = (card.folder / card.options["text"]).read_text().splitlines()
        words = sorted({word for line in lines for word in line.split()})
        self.words = ["<s>", "</s>", "<unk>", *words]
        self.place = {word: i for i, word in enumerate(self.words)}
        self.fingerprint = digest(["tests.word_models", self.kind, self.period, lines])
        if self.kind == "bigram":
            counts = torch.full((len(self.words), len(self.words)), 1e-3)
            for line in lines:
                ids = [START, *self.encode_continuation(Text(line)), END]
                # A text may also begin in the middle of a sentence.
                for a, b in [*itertools.pairwise(ids), *((START, i) for i in ids[1:-1])]:
                    counts[a, b] += 1
            self.table = (counts / counts.sum(1, keepdim=True)).log()
        else:
            self.table = SURE * torch.eye(len(self.words))

    def prepare(self, segments):
        pass

    def encode_prior(self, source, target):
        if {source, target} != {"text"}:
            raise InputError(f"text only; asked for {source} → {target}")
        return [START]

    def encode_prompt(self, prompt, target):
        return [*self.encode_prior("text", target), *(i for s in prompt for i in self.encode_continuation(s))]

    def encode_continuation(self, segment):
        if not isinstance(segment, Text):
            raise InputError(f"text only; got {segment}")
        return [self.place.get(word, UNKNOWN) for word in segment.text.split()]

    def tokens_of(self, modality):
        return range(3, len(self.words)) if modality == "text" else ()

    def decode(self, ids):
        text = " ".join(self.words[i] for i in ids if i > UNKNOWN)
        return (Text(text),) if text else ()

    def forward(self, ids, *, lengths=None, past=None, use_cache=False):
        # Nothing is kept: sequences are read anew.
        deciding = ids if self.kind == "bigram" else ids.roll(self.period - 1, 1)
        return Hidden(deciding[..., None].float())

    def logits(self, states):
        return self.table[states[..., 0].long()]


MODEL = Words
