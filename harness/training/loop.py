"""The training loop: exact resume, validation per format, one checkpoint folder at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import OPTForCausalLM

from harness.config import digest, plain
from harness.engine.distributed import ALONE, Processes
from harness.engine.optimization import Schedule, adamw, clip_gradients, set_learning_rate, update
from harness.engine.packing import PACKED, PackedBatch, Packer, pack, packed_losses
from harness.errors import ConfigError, CorpusError, TrainingError
from harness.training.decoder import build_decoder
from harness.training.formats import Formatter, PairedUtterance
from harness.training.mixture import Document, MixtureStream
from harness.training.recipe import FORMATS, Architecture, Format, TrainingConfig
from harness.training.state import TrainingState

_NOT_DECIDING = {"export_dtype", "train", "dev", "start_from"}


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What one optimizer step did: losses in nats per token, speed in tokens per second."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_per_s: float
    dev: dict[str, float]
    realized: dict[str, dict[str, float]]


class DivergedError(TrainingError):
    """The loss is no longer a finite number."""


def schedule_of(config: TrainingConfig) -> Schedule:
    """The learning rates of a training."""
    return Schedule(
        config.schedule,
        peak=config.learning_rate,
        steps=config.steps,
        warmup_steps=config.warmup_steps,
        floor=config.min_learning_rate,
        decay_share=config.decay_share,
    )


def deciding(config: TrainingConfig) -> dict[str, Any]:
    """The settings that a run is known by: those that decide its weights or its curve.

    The type of the export does not: a finished run can be exported in another type without training again. Nor do the
    names of data and of weights to start from, which count by their content.
    """
    return {key: value for key, value in plain(config).items() if key not in _NOT_DECIDING}


def optimizer_for(model: OPTForCausalLM, config: TrainingConfig) -> torch.optim.AdamW:
    """The optimizer of a training: weight decay on matrices but not on embeddings, of tokens and of positions."""
    return adamw(
        model.parameters(),
        without_decay=[parameter for name, parameter in model.named_parameters() if "embed" in name],
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
    )


class Trainer:
    """One training run in one state folder; the same arguments continue where the folder stands.

    Args:
        architecture: of the decoder.
        config: of the training.
        formatter: makes documents under the checkpoint's vocabulary.
        train: utterances to learn from.
        dev: utterances to validate on.
        state: folder that the run is resumed from; None: it cannot be.
        device: where to train.
        identity: whatever else must be equal for a state folder to be continued (digests of data and tokenizers).
        processes: those that share every batch, connected; the first one writes the state.

    Raises:
        ConfigError: if there are more processes than rows in a batch.
        CorpusError: if there is nothing to validate on, or the mixture asks for AST and no utterance has word times.
        TrainingError: if the state folder is of another run.
    """

    def __init__(
        self,
        architecture: Architecture,
        config: TrainingConfig,
        formatter: Formatter,
        train: Sequence[PairedUtterance],
        dev: Sequence[PairedUtterance],
        *,
        state: Path | None,
        device: str = "cpu",
        identity: str = "",
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self.config, self.device = config, device
        self._schedule = schedule_of(config)
        identity = digest({"architecture": architecture, "config": deciding(config), "data": identity})
        self._state = None if state is None else TrainingState(state, identity)
        self.model = build_decoder(architecture, formatter.vocabulary.size, seed=config.seed).to(device)
        self.model.set_attn_implementation(PACKED)
        self.optimizer = optimizer_for(self.model, config)
        row = min(config.row_tokens, architecture.context)
        self._rows = max(1, config.batch_tokens // row // config.accumulate)
        if processes.world > self._rows:
            raise ConfigError(
                f"{processes.world} processes cannot share batches of {self._rows} rows (batch_tokens="
                f"{config.batch_tokens}, row_tokens={row}, accumulate={config.accumulate}); take fewer."
            )
        self.stream = MixtureStream(
            train, formatter, config.mixture, ratio_unit=config.ratio_unit, seed=config.seed, max_tokens=row
        )
        self._packer = Packer(self.stream, row)
        self._dev = _dev_batches(dev, formatter.keeping_beginnings(), config, row)
        self.step, self.tokens = 0, 0
        self.history: list[dict[str, Any]] = []
        self._resume()

    def run(self, on_step: Callable[[TrainingStep], None] | None = None) -> OPTForCausalLM:
        """Trains to the last step and returns the model, in evaluation mode.

        Raises:
            DivergedError: if a training or validation loss stops being finite; nothing of that step is saved.
            TrainingError: if another process trains in the same state folder.
        """
        with self._alone():
            while self.step < self.config.steps:
                report = self._one_step()
                self.history.append({"step": report.step, "loss": report.loss, "tokens": report.tokens, **report.dev})
                due = self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps
                if self._state and due and self._processes.rank == 0:
                    self._state.save(self.model, self.optimizer, self._position())
                if on_step:
                    on_step(report)
        return self.model.eval()

    def validate(self) -> dict[str, float]:
        """Mean loss per token (nats, ≥ 0) of each format on fixed documents of the development set."""
        self.model.eval()
        out = {}
        with torch.inference_mode(), self._precision():
            for kind, batches in self._dev.items():
                mine = batches[self._processes.rank :: self._processes.world]
                parts = [packed_losses(self.model, *self._tensors(b))[0].float().cpu() for b in mine]
                gathered = self._processes.gather(parts)
                losses = torch.cat([gathered[i % len(gathered)][i // len(gathered)] for i in range(len(batches))])
                out[f"dev_{kind}"] = float(losses.double().mean())
        self.model.train()
        return out

    def _one_step(self) -> TrainingStep:
        start = time.perf_counter()
        rate = self._schedule.rate(self.step)
        set_learning_rate(self.optimizer, rate)
        self.model.train()
        batches = [self._packer.batch(self._rows) for _ in range(self.config.accumulate)]
        # Dropout draws from the global generator: seeded by step, so that a resumed run draws the same.
        rank, world = self._processes.rank, self._processes.world
        torch.manual_seed(self.config.seed * 1_000_003 + self.step + (rank << 40))
        losses = []
        num_predicted = sum(_num_predicted(b) for b in batches)
        for batch in batches:
            with self._precision():
                each, _ = packed_losses(self.model, *self._tensors(batch.part(rank, world)))
                total = each.sum() / num_predicted
            total.backward()
            losses.append(float(total.detach()))
        self._processes.add_up([p.grad for p in self.model.parameters() if p.grad is not None])
        norm = clip_gradients(self.model.parameters(), self.config.clip_norm)
        loss = sum(self._processes.gather(sum(losses)))
        _check_finite(self.step + 1, {"loss": loss, "gradient norm": norm})
        update(self.optimizer)
        self.step += 1
        tokens = sum(b.num_tokens for b in batches)
        self.tokens += tokens
        speed = tokens / (time.perf_counter() - start)
        due = self.step % self.config.eval_every == 0 or self.step == self.config.steps
        dev = self.validate() if due else {}
        _check_finite(self.step, dev)
        return TrainingStep(
            self.step, self.config.steps, loss, rate, norm, self.tokens, speed, dev, self.stream.realized()
        )

    def _tensors(self, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        ids, documents, positions = (
            torch.from_numpy(a).to(self.device) for a in (batch.ids, batch.documents, batch.positions)
        )
        return ids, documents, positions

    @contextmanager
    def _precision(self) -> Iterator[None]:
        if self.config.dtype == "bfloat16":
            with torch.autocast(torch.device(self.device).type, torch.bfloat16):
                yield
        else:
            yield

    def _alone(self) -> AbstractContextManager[None]:
        # Two processes that save into one folder would publish each other's half-written files.
        return nullcontext() if self._state is None or self._processes.rank > 0 else self._state.alone()

    def _position(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "tokens": self.tokens,
            "stream": self.stream.state(),
            "waiting": plain(self._packer.waiting),
            "history": self.history,
        }

    def _resume(self) -> None:
        if self._state is None:
            return
        if self._processes.rank == 0:
            self._state.recover()
        self._processes.gather(None)  # no process reads it before
        content = self._state.load(self.model, self.optimizer)
        if content is None:
            return
        self.step, self.tokens, self.history = content["step"], content["tokens"], content["history"]
        self.stream.restore(content["stream"])
        self._packer.waiting = [Document(d["format"], tuple(d["ids"])) for d in content["waiting"]]


def _check_finite(step: int, values: Mapping[str, float]) -> None:
    if not all(map(math.isfinite, values.values())):
        found = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise DivergedError(f"Training diverged at step {step}: {found}. Lower the learning rate or warm up longer.")


def _num_predicted(batch: PackedBatch) -> int:
    d = batch.documents
    return int(((d[:, 1:] == d[:, :-1]) & (d[:, 1:] >= 0)).sum())


def _dev_batches(
    dev: Sequence[PairedUtterance], formatter: Formatter, config: TrainingConfig, row: int
) -> dict[Format, list[PackedBatch]]:
    # Every format, whatever the mixture: a model is also judged on what it did not see.
    if not dev:
        raise CorpusError("The development set holds no utterance; name a split in the training's 'dev'.")
    out: dict[Format, list[PackedBatch]] = {}
    for kind in FORMATS:
        usable = [u for u in dev if u.can_be(kind)][: config.validation_documents]
        if not usable:
            continue
        documents = [
            Document(kind, tuple(formatter.format(u, kind, np.random.default_rng([config.seed, i]))[:row]))
            for i, u in enumerate(usable)
        ]
        rows: list[list[Document]] = [[]]
        for document in documents:
            if sum(len(d.ids) for d in rows[-1]) + len(document.ids) > row:
                rows.append([])
            rows[-1].append(document)
        out[kind] = [pack(rows[i : i + 8], row) for i in range(0, len(rows), 8)]
    return out
