import pytest
import torch

from harness.engine.packing import packed_losses
from harness.training.decoder import build_decoder
from harness.training.recipe import Architecture
from tests.training.toy import ARCHITECTURE, VOCABULARY

IDS = torch.tensor([[2, 7, 8, 9, 4, 17, 18, 1]])


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same = (build_decoder(ARCHITECTURE, VOCABULARY.size, seed=1).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    other = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=2).state_dict()
    name = "model.decoder.layers.0.fc1.weight"
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one[name], other[name])


def test_an_untrained_decoder_is_at_chance():
    """Small random weights: every token has about probability 1 / 42, a loss of ln 42 = 3.74 nats."""
    model = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=1).eval()
    model.set_attn_implementation("packed")
    losses, _ = packed_losses(model, IDS, torch.zeros_like(IDS), torch.arange(8)[None])
    assert float(losses.mean().detach()) == pytest.approx(3.74, abs=0.1)


def test_output_weights_are_the_embeddings():
    model = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=0)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight


def test_dropout_is_drawn_in_training_only():
    dropping = Architecture(num_layers=1, hidden_size=16, num_heads=2, ffn_size=32, context=64, dropout=0.5)
    model = build_decoder(dropping, VOCABULARY.size, seed=1)
    model.set_attn_implementation("packed")

    def losses() -> torch.Tensor:
        return packed_losses(model, IDS, torch.zeros_like(IDS), torch.arange(8)[None])[0].detach()

    model.train()
    assert not torch.equal(losses(), losses())
    model.eval()
    assert torch.equal(losses(), losses())
