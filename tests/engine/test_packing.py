import numpy as np
import pytest
import torch

from harness.engine.packing import POOL, Packer, pack, packed_losses, packed_mask
from harness.errors import InputError
from harness.training.decoder import build_decoder
from harness.training.mixture import Document, MixtureStream
from harness.training.recipe import Mixture
from harness.training.vocabulary import PAD
from tests.training.toy import ARCHITECTURE, VOCABULARY, formatter, utterances

IDS = torch.tensor([[2, 7, 8, 9, 4, 17, 18, 1]])
DOCUMENTS = [
    Document("speech", (2, 7, 8, 9, 1)),
    Document("text", (3, 16, 17, 18, 19, 20, 1)),
    Document("cst", (2, 9, 9, 4, 17, 1)),
    Document("text", (3, 21, 1)),
]


@pytest.fixture(scope="module")
def decoder():
    model = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=0)
    model.set_attn_implementation("packed")
    # Larger weights than at the start of training, so that attention is far from uniform.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model.eval()


def losses(model, rows: list[list[Document]], row_tokens: int) -> dict[Document, list[float]]:
    """The losses of each document."""
    batch = pack(rows, row_tokens)
    ids, documents, positions = map(torch.from_numpy, (batch.ids, batch.documents, batch.positions))
    with torch.inference_mode():
        values, targets = packed_losses(model, ids, documents, positions)
    found = {}
    for r, row in enumerate(rows):
        for number, document in enumerate(row):
            mine = (targets // row_tokens == r) & (documents.flatten()[targets] == number)
            found[document] = values[mine].tolist()
    return found


def test_rows_hold_documents_then_padding_and_positions_restart():
    batch = pack([DOCUMENTS[2:], [DOCUMENTS[0]]], 10)
    assert batch.ids.tolist() == [[2, 9, 9, 4, 17, 1, 3, 21, 1, PAD], [2, 7, 8, 9, 1] + [PAD] * 5]
    assert batch.documents.tolist() == [[0] * 6 + [1] * 3 + [-1], [0] * 5 + [-1] * 5]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 0], [0, 1, 2, 3, 4, 0, 0, 0, 0, 0]]
    assert batch.num_tokens == 6 + 3 + 5
    assert {a.dtype for a in (batch.ids, batch.documents, batch.positions)} == {np.dtype(np.int64)}


def test_a_packed_document_has_the_loss_it_has_alone(decoder):
    together = losses(decoder, [DOCUMENTS[:2], DOCUMENTS[2:]], 16)
    for document in DOCUMENTS:
        alone = losses(decoder, [[document]], len(document.ids))[document]
        assert len(alone) == len(document.ids) - 1  # the start token is not predicted
        assert together[document] == pytest.approx(alone, abs=1e-5)


def test_changing_one_document_changes_no_other(decoder):
    before = losses(decoder, [DOCUMENTS], 32)
    changed = Document("text", (3, 22, 23, 24, 25, 26, 1))
    after = losses(decoder, [[DOCUMENTS[0], changed, *DOCUMENTS[2:]]], 32)
    assert after[changed] != pytest.approx(before[DOCUMENTS[1]], abs=1e-2)
    for document in (DOCUMENTS[0], *DOCUMENTS[2:]):
        assert after[document] == pytest.approx(before[document], abs=1e-6)


def test_order_in_the_row_and_padding_change_no_loss(decoder):
    one, other = losses(decoder, [DOCUMENTS], 21), losses(decoder, [DOCUMENTS[::-1], []], 40)
    for document in DOCUMENTS:
        assert other[document] == pytest.approx(one[document], abs=1e-5)


def test_a_batch_of_padding_alone_has_no_loss_and_is_finite(decoder):
    assert losses(decoder, [[]], 8) == {}


def packer(max_tokens: int = 64, row_tokens: int = 64) -> Packer:
    made = MixtureStream(
        utterances(60), formatter(), Mixture(), ratio_unit="tokens", seed=0, max_tokens=max_tokens
    )  # fmt: skip
    return Packer(made, row_tokens)


def test_little_room_is_wasted():
    made = packer(row_tokens=256)
    batches = [made.batch(4) for _ in range(10)]
    assert sum(b.num_tokens for b in batches) / sum(b.ids.size for b in batches) > 0.97


def test_every_document_is_packed_whole_once():
    made = packer()
    batch = made.batch(20)
    packed = [
        tuple(batch.ids[r, batch.documents[r] == number].tolist())
        for r in range(20)
        for number in range(batch.documents[r].max() + 1)
    ]
    taken = packer().stream
    expected = [next(taken).ids for _ in range(len(packed) + POOL)]
    waiting = [document.ids for document in made.waiting]
    assert sorted([*packed, *waiting]) == sorted(expected[: len(packed) + len(waiting)])


def test_the_oldest_document_never_waits_for_more_than_a_row():
    made = packer()
    for _ in range(30):
        oldest = made.waiting[0] if made.waiting else None
        row = made.batch(1)
        assert oldest is None or tuple(row.ids[0, row.documents[0] == 0].tolist()) == oldest.ids


# --- losses -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_that_knows_no_documents_is_refused(attention):
    model = build_decoder(ARCHITECTURE, VOCABULARY.size, seed=1)
    model.set_attn_implementation(attention)
    with pytest.raises(InputError, match=rf"need the attention 'packed', .*the model has '{attention}'"):
        packed_losses(model, IDS, torch.zeros_like(IDS), torch.arange(8)[None])
