"""What an architecture means for a decoder of transformers: its configuration and its weights; without torch."""

from __future__ import annotations

from typing import Any

from harness.training.recipe import Architecture
from harness.training.vocabulary import EOS, PAD

#: OPT's positions begin at 2 (Zhang et al. 2022, as in transformers).
_POSITION_OFFSET = 2


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


def weight_shapes(architecture: Architecture, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a weights file, by name; output weights are those of the embedding."""
    width, inner = architecture.hidden_size, architecture.ffn_size
    linear = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    linear |= {"fc1": (inner, width), "fc2": (width, inner)}
    shapes: dict[str, tuple[int, ...]] = {
        "model.decoder.embed_tokens.weight": (vocab_size, width),
        "model.decoder.embed_positions.weight": (architecture.context + _POSITION_OFFSET, width),
    }
    for prefix in (f"model.decoder.layers.{i}" for i in range(architecture.num_layers)):
        shapes |= {f"{prefix}.{name}.weight": shape for name, shape in linear.items()}
        shapes |= {f"{prefix}.{name}.bias": shape[:1] for name, shape in linear.items()}
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{prefix}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes | {f"model.decoder.final_layer_norm.{part}": (width,) for part in ("weight", "bias")}
