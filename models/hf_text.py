"""Adapter for causal language models of transformers in a local folder: text only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config import STRICT, build, digest, file_digest
from harness.engine.kv_cache import KVCache, read_rows
from harness.errors import CheckpointError, ConfigError, SegmentError
from harness.model import Hidden, ModelCard
from harness.segments import Modality, Prompt, Segment, Text

_INDEX = "model.safetensors.index.json"
#: Settings of architectures whose logits are not simply the output embeddings of the hidden states.
_CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True, config=STRICT)
class HfTextOptions:
    """The `options` of a card.

    Attributes:
        dtype: type that the weights are computed with.
        max_length: longest sequence in tokens; None: the configuration's `max_position_embeddings`.
    """

    dtype: str = "float32"
    max_length: int | None = None


class HfText:
    """A causal language model in Hugging Face layout: `config.json`, safetensors, a tokenizer.

    Sequences begin with the tokenizer's start token, else its end token. Every segment begins with a space, so that
    prompt and continuation have the tokens of the whole sentence.
    """

    modalities: frozenset[Modality] = frozenset({"text"})

    def __init__(self, card: ModelCard, *, device: str = "cpu") -> None:
        options = build(HfTextOptions, card.options, where=f"card '{card.name}': options")
        folder = card.checkpoint_path
        files = _files(card, folder)
        self.card, self.device = card, torch.device(device)
        dtype = getattr(torch, options.dtype, None)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ConfigError(f"card '{card.name}': options: '{options.dtype}' is not a floating-point type of torch.")
        try:
            self.module: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder} cannot be loaded as a causal language model: {error}") from error
        if changed := [
            name for name in _CHANGES_LOGITS if getattr(self.module.config, name, None) not in (None, 1, 1.0)
        ]:
            raise CheckpointError(f"{folder} changes its logits by '{changed[0]}', which this adapter does not know.")
        self.module.eval().to(self.device)
        start = self.tokenizer.bos_token_id
        self._start = start if start is not None else self.tokenizer.eos_token_id
        if self._start is None:
            raise CheckpointError(f"The tokenizer of {folder} has neither a start nor an end token to begin with.")
        self.end: int | None = self.tokenizer.eos_token_id
        # Tokenizers of the SentencePiece kind put the space there themselves.
        apart = [*self._ids("train"), *self._ids("late")]
        self._space = "" if self._ids("train late") == apart else " "
        self.max_length = int(options.max_length or self.module.config.max_position_embeddings)
        self.fingerprint = digest(["hf_text/1", {f.name: file_digest(f) for f in files}, options.dtype])

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Does nothing: text needs nothing in bulk."""

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """The start token."""
        if {source, target} != {"text"}:
            raise SegmentError(f"Model '{self.card.name}' knows text only; asked for {source} → {target}.")
        return [self._start]

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """Start token and prompt."""
        return [*self.encode_prior("text", target), *(i for s in prompt for i in self.encode_continuation(s))]

    def encode_continuation(self, segment: Segment) -> list[int]:
        """Ids of a segment, its first word with the space before it."""
        if not isinstance(segment, Text):
            raise SegmentError(f"Model '{self.card.name}' knows text only; got {segment}.")
        return self._ids(self._space + segment.text) if segment.text else []

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """All ids of the tokenizer but the special ones."""
        if modality != "text":
            return ()
        special = set(self.tokenizer.all_special_ids)
        return [i for i in range(len(self.tokenizer)) if i not in special]

    def decode(self, ids: Sequence[int]) -> Prompt:
        """One text without special tokens; none of no ids."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).removeprefix(" ")
        return (Text(text),) if text else ()

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: KVCache | None = None, use_cache: bool = False
    ) -> Hidden:
        """Final hidden states of right-padded `(batch, time)` ids."""
        return read_rows(self.module.base_model, ids, lengths=lengths, past=past, use_cache=use_cache)

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits."""
        logits: Tensor = self.module.get_output_embeddings()(states)
        return logits

    def _ids(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=False)]


def _files(card: ModelCard, folder: Path) -> list[Path]:
    """Weights, configuration and tokenizer, all that can change a number."""
    index = folder / _INDEX
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    weights = [folder / name for name in names]
    if missing := [w for w in (folder / "config.json", *weights) if not w.is_file()]:
        pickles = [p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
        why = f" It holds {pickles[0]}, but pickles are refused: convert it to safetensors." if pickles else ""
        raise CheckpointError(
            f"Model '{card.name}' has no {missing[0].name} in {folder}.{why} Point the card's 'checkpoint' at a folder "
            "in Hugging Face layout, with config.json, safetensors and a tokenizer."
        )
    found = file_digest(weights[0]) if len(weights) == 1 else digest([file_digest(w) for w in weights])
    if card.sha256 and card.sha256 != found:
        raise CheckpointError(f"The weights in {folder} have SHA-256 {found}, the card says {card.sha256}.")
    tokenizer = sorted(p for p in folder.glob("*") if _of_tokenizer(p.name))
    return [*weights, folder / "config.json", *tokenizer]


def _of_tokenizer(name: str) -> bool:
    return name.startswith(
        ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "spiece", "sentencepiece")
    )


MODEL = HfText
