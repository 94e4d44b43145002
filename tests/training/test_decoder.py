import pytest
import torch

from harness.engine.packing import packed_losses, packed_mask
from harness.errors import InputError
from harness.training.decoder import build_decoder
from harness.training.recipe import Architecture
from tests.training.toy import ARCHITECTURE, VOCABULARY

IDS = torch.tensor([[2, 7, 8, 9, 4, 17, 18, 1]])


def test_a_position_sees_itself_and_what_comes_before_in_its_document():
    mask = packed_mask(torch.tensor([[0, 0, 1, 1, -1, -1]]))
    assert mask.shape == (1, 1, 6, 6)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_losses_are_those_of_the_plain_model(attention):
    model = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=1).eval()
    model.set_attn_implementation("packed")
    documents, positions = torch.zeros_like(IDS), torch.arange(8)[None]
    with torch.inference_mode():
        losses, targets = packed_losses(model, IDS, documents, positions)
        model.set_attn_implementation(attention)
        plain = model(input_ids=IDS, labels=IDS)
        each = torch.nn.functional.cross_entropy(plain.logits[0, :-1], IDS[0, 1:], reduction="none")
    assert targets.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, each, atol=1e-5, rtol=0)
    torch.testing.assert_close(losses.mean(), plain.loss, atol=1e-5, rtol=0)


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


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_that_knows_no_documents_is_refused(attention):
    model = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=1)
    model.set_attn_implementation(attention)
    with pytest.raises(InputError, match=rf"need the attention 'packed', .*the model has '{attention}'"):
        packed_losses(model, IDS, torch.zeros_like(IDS), torch.arange(8)[None])
