"""The decoder-only transformer that training starts from."""

from __future__ import annotations

from typing import Any

import torch
from transformers import OPTConfig, OPTForCausalLM

from harness.training.recipe import Architecture
from harness.training.vocabulary import EOS, PAD


def decoder_settings(architecture: Architecture, vocab_size: int) -> dict[str, Any]:
    """The fields of `OPTConfig` that make this architecture, as they stand in a checkpoint's `config.json`."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": architecture.hidden_size,
        "word_embed_proj_dim": architecture.hidden_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "ffn_dim": architecture.ffn_size,
        "max_position_embeddings": architecture.context,
        "dropout": architecture.dropout,
        "attention_dropout": 0.0,  # fused attention on CPU has none
        "pad_token_id": PAD,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "do_layer_norm_before": True,
        "tie_word_embeddings": True,
    }


def build_decoder(architecture: Architecture, vocab_size: int, *, seed: int) -> OPTForCausalLM:
    """A freshly initialized OPT decoder (Zhang et al. 2022, arXiv 2205.01068), pre-norm, tied embeddings."""
    config = OPTConfig(**decoder_settings(architecture, vocab_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OPTForCausalLM(config)
    model.generation_config = None
    return model
