"""The decoder-only transformer and its packed training loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, OPTConfig, OPTForCausalLM

from harness.errors import InputError
from harness.training.recipe import Architecture
from harness.training.vocabulary import EOS, PAD

#: The name under which attention within documents is registered with transformers.
PACKED = "packed"


def build_decoder(architecture: Architecture, vocab_size: int, *, seed: int) -> OPTForCausalLM:
    """A freshly initialized OPT decoder (Zhang et al. 2022, arXiv 2205.01068), pre-norm, tied embeddings."""
    config = OPTConfig(
        vocab_size=vocab_size,
        hidden_size=architecture.hidden_size,
        word_embed_proj_dim=architecture.hidden_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        ffn_dim=architecture.ffn_size,
        max_position_embeddings=architecture.context,
        dropout=architecture.dropout,
        attention_dropout=0.0,  # fused attention on CPU has none
        pad_token_id=PAD,
        bos_token_id=EOS,
        eos_token_id=EOS,
        do_layer_norm_before=True,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OPTForCausalLM(config)
    model.generation_config = None
    return model


def _packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    *, scaling: float, dropout: float = 0.0, packed_mask: Tensor | None = None, **_: object,
) -> tuple[Tensor, None]:  # fmt: skip
    # The mask travels beside transformers' own, which knows padding but not documents.
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=packed_mask, dropout_p=dropout, scale=scaling
    )
    return out.transpose(1, 2), None


AttentionInterface.register(PACKED, _packed_attention)


def packed_mask(documents: Tensor) -> Tensor:
    """Which position may attend to which: same document, not later; `(rows, 1, time, time)` booleans.

    Padding attends to itself, so that no softmax is over nothing.
    """
    same = documents[:, :, None] == documents[:, None, :]
    causal = torch.ones(documents.shape[1], documents.shape[1], dtype=torch.bool, device=documents.device).tril()
    return (same & causal)[:, None]


def packed_losses(model: OPTForCausalLM, ids: Tensor, documents: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token losses of packed rows.

    Args:
        model: the decoder, its attention set to `PACKED`.
        ids: `(rows, time)` token ids.
        documents: `(rows, time)` document numbers, -1 for padding.
        positions: `(rows, time)` positions within the document.

    Returns:
        Losses in nats (≥ 0), one per predicted token, float32; and their flat indices into `(rows, time)`. The first
        token of a document is not predicted.

    Raises:
        InputError: if the model's attention is another, which would let documents see each other.
    """
    if (attention := model.config._attn_implementation) != PACKED:
        raise InputError(
            f"Packed rows need the attention '{PACKED}', which keeps documents apart; the model has '{attention}'. "
            f"Call model.set_attn_implementation('{PACKED}') first."
        )
    hidden = model.model.decoder(
        input_ids=ids, position_ids=positions, packed_mask=packed_mask(documents), use_cache=False
    ).last_hidden_state
    predicts = torch.zeros_like(ids, dtype=torch.bool)
    predicts[:, :-1] = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
    targets = torch.nonzero(predicts.flatten()).squeeze(1) + 1
    # Logits only where something is predicted: padding and document ends cost nothing.
    logits = model.lm_head(hidden.flatten(0, 1)[targets - 1])
    return nn.functional.cross_entropy(logits.float(), ids.flatten()[targets], reduction="none"), targets
