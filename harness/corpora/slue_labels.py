"""SLUE's entity labels: the 18 of the data, the 7 of the scores, the characters that slue-toolkit tags texts with.

Shon et al. 2022 (arXiv 2111.10367); slue-toolkit's `generic_utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from harness.corpora.manifest import Entity
from harness.errors import FormatError

#: The label that a raw entity label is scored as; None where it is discarded.
COMBINED: Mapping[str, str | None] = MappingProxyType(
    {
        "CARDINAL": "QUANT",
        "DATE": "WHEN",
        "EVENT": None,
        "FAC": None,
        "GPE": "PLACE",
        "LANGUAGE": None,
        "LAW": "LAW",
        "LOC": "PLACE",
        "MONEY": "QUANT",
        "NORP": "NORP",
        "ORDINAL": "QUANT",
        "ORG": "ORG",
        "PERCENT": "QUANT",
        "PERSON": "PERSON",
        "PRODUCT": None,
        "QUANTITY": "QUANT",
        "TIME": "WHEN",
        "WORK_OF_ART": None,
    }
)
#: The 18 labels of the data (those of OntoNotes 5).
RAW_LABELS = tuple(COMBINED)
#: The 7 labels of the scores.
COMBINED_LABELS = tuple(sorted({label for label in COMBINED.values() if label}))
#: What a raw or combined label is scored as; None where it is discarded.
SCORED_LABELS: Mapping[str, str | None] = MappingProxyType({**{label: label for label in COMBINED_LABELS}, **COMBINED})
#: What opens a mention in slue-toolkit's texts of raw labels.
RAW_CHARACTERS: Mapping[str, str] = MappingProxyType(dict(zip("!@#$%^&*()~`{}[<>?", RAW_LABELS, strict=True)))
#: What opens a mention in slue-toolkit's texts of combined labels.
COMBINED_CHARACTERS: Mapping[str, str] = MappingProxyType(dict(zip("!@#$%^&", COMBINED_LABELS, strict=True)))


def combined_label(label: str) -> str | None:
    """The label that a raw or combined label is scored as, None if it is discarded.

    Raises:
        FormatError: if it is neither raw nor combined.
    """
    if label not in SCORED_LABELS:
        raise FormatError(
            f"There is no entity label '{label}'. Raw labels are {', '.join(RAW_LABELS)}; "
            f"combined ones {', '.join(COMBINED_LABELS)}."
        )
    return SCORED_LABELS[label]


def combined_entities(entities: Iterable[Entity]) -> list[Entity]:
    """The entities under the labels that they are scored as, without discarded ones.

    Raises:
        FormatError: if a label is neither raw nor combined.
    """
    pairs = [(combined_label(e.label), e) for e in entities]
    return [Entity(label, e.start, e.length) for label, e in pairs if label is not None]
