"""The decoder-only transformer that training starts from."""

from __future__ import annotations

import torch
from transformers import OPTConfig, OPTForCausalLM

from harness.training.decoder_config import decoder_settings
from harness.training.recipe import Architecture


def decoder_config(architecture: Architecture, vocab_size: int) -> OPTConfig:
    """The configuration of an architecture, for transformers."""
    return OPTConfig(**decoder_settings(architecture, vocab_size))


def build_decoder(architecture: Architecture, vocab_size: int, *, seed: int) -> OPTForCausalLM:
    """A freshly initialized OPT decoder (Zhang et al. 2022, arXiv 2205.01068), pre-norm, tied embeddings."""
    config = decoder_config(architecture, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OPTForCausalLM(config)
    model.generation_config = None
    return model
