"""A random decoder for runs by the command line: the card's adapter is `<this file>:MODEL`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from harness.config import digest
from harness.engine.kv_cache import read_rows
from harness.testing import UniformModel
from harness.training.decoder import build_decoder
from harness.training.recipe import Architecture

ARCHITECTURE = Architecture(num_layers=2, hidden_size=16, num_heads=2, ffn_size=32, context=1024)


class TinyDecoder(UniformModel):
    """`UniformModel`'s tokens under random weights, so that results show the last bit of every number.

    Args:
        seed: of the weights.
        kill_at: the call of `logits` at which its process ends as by `kill -9`.
        seconds: that each such call takes at least.
        log: a file that gets a byte for each call.
    """

    def __init__(self, *, seed: int = 0, kill_at: int = 0, seconds: float = 0.0, log: str = os.devnull) -> None:
        super().__init__(max_length=ARCHITECTURE.context)
        vocab_size = super().logits(torch.zeros(1)).shape[-1]
        self.module = build_decoder(ARCHITECTURE, vocab_size, seed=seed).eval()
        self.fingerprint = digest(["tests.tiny_decoder", seed])
        self.calls, self.kill_at, self.seconds, self.log = 0, kill_at, seconds, Path(log)

    def forward(self, ids, *, lengths=None, past=None, use_cache=False):
        return read_rows(self.module.model.decoder, ids, lengths=lengths, past=past, use_cache=use_cache)

    def logits(self, states):
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        with self.log.open("ab") as stream:
            stream.write(b".")
        return self.module.lm_head(states) * 40  # far enough apart for scores to differ


def MODEL(card, *, device="cpu"):
    model = TinyDecoder(**card.options)
    model.card = card
    return model
