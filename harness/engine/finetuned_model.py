"""The model that fine-tuning makes: a copy of the decoder, task tokens, perhaps a classification head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.config import home
from harness.engine.finetune_config import FineTuning, fine_tuning_digest
from harness.errors import CheckpointError, UsageError
from harness.model import Hidden, Model
from harness.segments import Modality, Prompt, Segment


class FineTunedModel:
    """A fine-tuned model, itself a `Model`: the evaluated one's tokenizers, a decoder of its own, and task tokens.

    Task tokens count as text, so that they may be generated; `decode` drops them.

    Attributes:
        tokens: ids of the task tokens by name.
        head: from states `(…, width)` to class logits `(…, num_classes)`; None where there is none.
    """

    def __init__(
        self, base: Model, decoder: PreTrainedModel, tokens: Mapping[str, int], head: nn.Linear | None, *, digest: str
    ) -> None:
        # Adapters reach their decoder through `module` alone, so that a copy with another one is a model of its own.
        self._inner = copy.copy(base)
        self._inner.module = decoder
        self.module: PreTrainedModel = decoder
        self.card, self.modalities, self.device = base.card, base.modalities, base.device
        self.max_length, self.end = base.max_length, base.end
        self.fingerprint = digest
        self.tokens, self.head = tokens, head

    def prepare(self, segments: Sequence[Segment]) -> None:
        """As the evaluated model."""
        self._inner.prepare(segments)

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """As the evaluated model."""
        return self._inner.encode_prompt(prompt, target)

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """As the evaluated model."""
        return self._inner.encode_prior(source, target)

    def encode_continuation(self, segment: Segment) -> list[int]:
        """As the evaluated model."""
        return self._inner.encode_continuation(segment)

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """As the evaluated model, and of text the task tokens."""
        added = sorted(self.tokens.values()) if modality == "text" else []
        return [*self._inner.tokens_of(modality), *added]

    def decode(self, ids: Sequence[int]) -> Prompt:
        """As the evaluated model; task tokens are dropped."""
        added = set(self.tokens.values())
        return self._inner.decode([i for i in ids if i not in added])

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, use_cache: bool = False
    ) -> Hidden:
        """As the evaluated model, by the fine-tuned decoder."""
        return self._inner.forward(ids, lengths=lengths, past=past, use_cache=use_cache)

    def logits(self, states: Tensor) -> Tensor:
        """Of the next token, task tokens included, whether there is a head or not."""
        return self._inner.logits(states)

    def outputs(self, states: Tensor) -> Tensor:
        """Class logits of the head; without one, those of the next token."""
        return self.logits(states) if self.head is None else self.head(states)


def task_tokens(model: Model, names: Sequence[str]) -> dict[str, int]:
    """The ids that new tokens will have: those after the vocabulary of the decoder.

    Raises:
        UsageError: if the model has no decoder of transformers to fine-tune.
    """
    first = _decoder(model).get_input_embeddings().weight.shape[0]
    return {name: first + i for i, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """A trained tensor: all of a parameter, or its rows from `first` on (of an embedding whose others stay)."""

    parameter: Tensor
    first: int = 0

    @property
    def data(self) -> Tensor:
        """Its trained values, in place."""
        return self.parameter.detach()[self.first :]


def _decoder(model: Model) -> PreTrainedModel:
    if not isinstance(model.module, PreTrainedModel):
        raise UsageError(
            f"'{model.card.name}' cannot be fine-tuned: its adapter '{model.card.adapter}' offers no decoder of "
            "transformers as 'module'."
        )
    return model.module


def build_fine_tuned(model: Model, job: FineTuning) -> tuple[FineTunedModel, dict[str, TrainedPart]]:
    """The model as it is before training, and what of it is trained, by name."""
    decoder = copy.deepcopy(_decoder(model)).float()
    tokens = task_tokens(model, job.tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        first = decoder.get_input_embeddings().weight.shape[0]
        _add_tokens(decoder, len(tokens))
        head = _head(decoder, job.num_classes) if job.num_classes else None
        if job.config.method == "lora":
            _add_lora(decoder, job.config.lora_rank)
        else:
            decoder.requires_grad_(True)
        decoder.to(model.device)
        if head is not None:
            head.to(model.device)
    parts = _parts(decoder, head, first if job.config.method == "lora" else 0)
    return FineTunedModel(model, decoder, tokens, head, digest=fine_tuning_digest(model, job)), parts


def _add_tokens(decoder: PreTrainedModel, number: int) -> None:
    """New rows at the mean of the old ones, with a little noise, so that they differ from each other."""
    if not number:
        return
    before = decoder.get_input_embeddings().weight.shape[0]
    decoder.resize_token_embeddings(before + number, mean_resizing=False)
    for layer in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        weight = layer.weight.data
        old = weight[:before]
        noise = torch.randn(number, weight.shape[1]).to(weight) * old.std(0)
        weight[before:] = old.mean(0) + 0.1 * noise


def _head(decoder: PreTrainedModel, num_classes: int) -> nn.Linear:
    head = nn.Linear(decoder.get_output_embeddings().weight.shape[1], num_classes)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def _add_lora(decoder: PreTrainedModel, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # imported where it is needed: it takes seconds

    decoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), decoder)
    for layer in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        layer.weight.requires_grad_(True)


def _parts(decoder: PreTrainedModel, head: nn.Linear | None, first_row: int) -> dict[str, TrainedPart]:
    """What is trained: of embeddings the rows from `first_row` on. Tied weights are named once."""
    embeddings = {id(e.weight) for e in (decoder.get_input_embeddings(), decoder.get_output_embeddings())}
    parts = {}
    for name, parameter in decoder.named_parameters():  # each parameter once
        if parameter.requires_grad:
            first = first_row if id(parameter) in embeddings else 0
            if first:
                parameter.register_hook(_freeze_rows(first))
            parts[name] = TrainedPart(parameter, first)
    if head is not None:
        parts |= {f"head.{name}": TrainedPart(parameter) for name, parameter in head.named_parameters()}
    return parts


def _freeze_rows(first: int) -> Callable[[Tensor], Tensor]:
    """A gradient that is 0 in the rows before `first`, which AdamW without weight decay then leaves as they are."""

    def masked(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:first] = 0
        return gradient

    return masked


def put_weights(parts: Mapping[str, TrainedPart], weights: Mapping[str, Tensor]) -> None:
    """Copies trained weights into the model that `build_fine_tuned` made.

    Raises:
        CheckpointError: if their names are not those of its trained parts.
    """
    if parts.keys() != weights.keys():
        raise CheckpointError(
            f"Fine-tuned weights do not fit the model: they lack {sorted(parts.keys() - weights.keys())[:3]} and add "
            f"{sorted(weights.keys() - parts.keys())[:3]}. Remove {home() / 'finetuned'} and run again."
        )
    for name, part in parts.items():
        part.data.copy_(weights[name])
