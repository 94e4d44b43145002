"""One vocabulary for both modalities."""

from harness.training.vocabulary import Vocabulary
from tests.training.toy import VOCABULARY


def test_ids_lie_in_disjoint_ranges():
    assert VOCABULARY.size == 6 + 10 + 26
    assert [VOCABULARY.modality_of(i) for i in (0, 5, 6, 15, 16, 41, 42)] == [
        None, None, "speech", "speech", "text", "text", None,
    ]  # fmt: skip


def test_an_empty_inventory_has_an_empty_range():
    assert list(Vocabulary(num_units=0, num_text=2).id_range("text")) == [6, 7]
