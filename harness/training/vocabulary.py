"""One vocabulary for both modalities: specials, then unit subwords, then text subwords, in disjoint ranges."""

from __future__ import annotations

from dataclasses import dataclass

from harness.segments import Modality

SPECIALS = ("<pad>", "</s>", "<U_EN>", "<T_EN>", "<U2T>", "<T2U>")
PAD, EOS, U_EN, T_EN, U2T, T2U = range(len(SPECIALS))
START: dict[Modality, int] = {"speech": U_EN, "text": T_EN}
SWITCH_TO: dict[Modality, int] = {"text": U2T, "speech": T2U}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Sizes of the two subword inventories; ids are `[specials | units | text]`."""

    num_units: int
    num_text: int

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(SPECIALS) + self.num_units + self.num_text

    def offset(self, modality: Modality) -> int:
        """First id of a modality's range."""
        return len(SPECIALS) + (0 if modality == "speech" else self.num_units)

    def id_range(self, modality: Modality) -> range:
        """All ids of a modality."""
        start = self.offset(modality)
        return range(start, start + (self.num_units if modality == "speech" else self.num_text))

    def modality_of(self, token: int) -> Modality | None:
        """The modality of an id; None for specials."""
        if token in self.id_range("speech"):
            return "speech"
        return "text" if token in self.id_range("text") else None
