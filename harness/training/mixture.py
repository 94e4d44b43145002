"""The endless stream of documents that a mixture asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.errors import CorpusError
from harness.training.formats import Formatter, PairedUtterance
from harness.training.recipe import FORMATS, Format, Mixture

_STREAM = {name: i for i, name in enumerate(FORMATS)}


@dataclass(frozen=True, slots=True)
class Document:
    """One training sequence in one format."""

    format: Format
    ids: tuple[int, ...]


@dataclass
class _Source:
    """Where one format stands in its own pass over the corpus."""

    epoch: int = 0
    index: int = 0
    tokens: int = 0
    samples: int = 0
    order: list[int] = field(default_factory=list)


class MixtureStream:
    """Documents drawn so that realized shares follow the mixture to within one document.

    The next document comes from the format that lags furthest behind its share; each format runs through its own
    seeded permutation of the corpus, and its random choices depend on (seed, format, epoch, utterance) only. Hence the
    stream is a function of the seed, whatever the number of workers, and resumes from `state()`.

    Args:
        utterances: the corpus; those without word times are left out of AST alone.
        formatter: makes token ids.
        mixture: the weights.
        ratio_unit: whether shares count tokens or samples.
        seed: of every draw.
        max_tokens: documents are cut to this many ids.

    Attributes:
        num_cut: documents so far that were longer and lost their end.
        num_without_word_times: utterances that AST, if it has a share, leaves out.

    Raises:
        CorpusError: if there is no utterance, or AST has a share and none has word times.
    """

    def __init__(
        self,
        utterances: Sequence[PairedUtterance],
        formatter: Formatter,
        mixture: Mixture,
        *,
        ratio_unit: str,
        seed: int,
        max_tokens: int,
    ) -> None:
        if not utterances:
            raise CorpusError("The training corpus holds no utterance.")
        self._utterances, self._formatter, self._seed = utterances, formatter, seed
        self._shares: dict[Format, float] = {f: s for f, s in mixture.shares.items() if s > 0}
        self._unit, self._max_tokens = ratio_unit, max_tokens
        self._sources: dict[Format, _Source] = {f: _Source() for f in self._shares}
        # Places in the corpus; all of them, in order, for every format that each utterance can have.
        self._usable = {f: [i for i, u in enumerate(utterances) if u.can_be(f)] for f in self._shares}
        self.num_cut = 0
        self.num_without_word_times = len(utterances) - len(self._usable.get("ast", utterances))
        if not all(self._usable.values()):
            # Before the first step, since AST may come up after hours.
            raise CorpusError(
                f"None of {len(utterances)} training utterances, such as '{utterances[0].id}', has word times, which "
                "alternating sequences need; give the corpus alignments or set the mixture's ast weight to 0."
            )

    def __next__(self) -> Document:
        """The next document."""
        kind = self._lagging()
        source = self._sources[kind]
        if not source.order:
            source.order = self._permutation(kind, source.epoch)
        position = source.order[source.index]
        rng = np.random.default_rng([self._seed, _STREAM[kind], source.epoch, position])
        ids = self._formatter.format(self._utterances[position], kind, rng)
        self.num_cut += len(ids) > self._max_tokens
        ids = ids[: self._max_tokens]
        source.tokens += len(ids)
        source.samples += 1
        source.index += 1
        if source.index == len(self._usable[kind]):
            source.epoch, source.index, source.order = source.epoch + 1, 0, []
        return Document(kind, tuple(ids))

    def realized(self) -> dict[str, dict[str, float]]:
        """By format: tokens, samples, their shares so far, and epochs of the utterances that it can take."""
        tokens = sum(s.tokens for s in self._sources.values()) or 1
        samples = sum(s.samples for s in self._sources.values()) or 1
        return {
            kind: {
                "tokens": s.tokens,
                "samples": s.samples,
                "token_share": s.tokens / tokens,
                "sample_share": s.samples / samples,
                "epochs": s.samples / len(self._usable[kind]),
            }
            for kind, s in self._sources.items()
        }

    def state(self) -> dict[str, Any]:
        """JSON-ready position of the stream."""
        return {
            "num_cut": self.num_cut,
            "sources": {
                kind: {"epoch": s.epoch, "index": s.index, "tokens": s.tokens, "samples": s.samples}
                for kind, s in self._sources.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a `state()` of a stream with the same arguments."""
        self.num_cut = state["num_cut"]
        for kind, saved in state["sources"].items():
            self._sources[kind] = _Source(**saved)

    def _lagging(self) -> Format:
        done = {k: s.tokens if self._unit == "tokens" else s.samples for k, s in self._sources.items()}
        # Equal lag falls to the earlier format, so that the stream is a function of its arguments.
        return min(self._shares, key=lambda k: done[k] / self._shares[k])

    def _permutation(self, kind: Format, epoch: int) -> list[int]:
        rng = np.random.default_rng([self._seed, _STREAM[kind], epoch])
        usable = self._usable[kind]
        return [usable[i] for i in rng.permutation(len(usable))]
