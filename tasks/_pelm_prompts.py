"""Prompts of PELM, and the continuations that are made of each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import CorpusError, OptionError
from harness.model import Model
from harness.segments import Direction, modalities_of
from harness.task import Session

from ._halves import Halves, cut_in_halves, num_words, with_distinct_continuations
from ._pelm_options import PelmOptions


@dataclass(frozen=True)
class ContinuationSpec:
    """A continuation to be made: `seed` counts those of one prompt at one temperature."""

    id: str
    direction: Direction
    halves: Halves
    seed: int
    temperature: float
    scan: bool


def possible_directions(options: PelmOptions, model: Model) -> list[Direction]:
    possible = [d for d in options.directions if set(modalities_of(d)) <= model.modalities]
    if not possible:
        raise OptionError(
            f"A model of {' and '.join(sorted(model.modalities))} has none of the directions "
            f"{', '.join(options.directions)}."
        )
    return possible


def speaks(directions: Iterable[Direction]) -> bool:
    return any(modalities_of(d)[1] == "speech" for d in directions)


def cut_prompts(session: Session, options: PelmOptions, directions: Iterable[Direction]) -> list[Halves]:
    corpus, needs_times = session.corpus, any("u" in d for d in directions)
    utterances = sorted((u for u in corpus.utterances if num_words(u) >= options.min_words), key=lambda u: u.id)
    cut = with_distinct_continuations(
        [cut_in_halves(corpus, u, needs_times=needs_times, instead="pelm.directions=[t2t]") for u in utterances]
    )
    wanted = session.limit if session.limit is not None else options.n
    if min(len(cut), wanted) < 2:
        raise CorpusError(
            f"PELM needs at least 2 utterances of {options.min_words} words or more; {corpus.name}:{corpus.split} "
            f"offers {len(cut)}, asked for {wanted}."
        )
    if wanted < len(cut):
        cut = sorted(random.Random(f"pelm {session.seed}").sample(cut, wanted), key=lambda h: h.id)
    return cut


def wanted_continuations(
    halves: Sequence[Halves], directions: Iterable[Direction], options: PelmOptions
) -> list[ContinuationSpec]:
    out = []
    for direction, half in itertools.product(directions, halves):
        for seed in range(options.seeds):
            name = f"{direction}/{half.id}/{seed}"
            out.append(ContinuationSpec(name, direction, half, seed, options.temperature, scan=False))
        for temperature in options.scan:
            name = f"{direction}/{half.id}/0/{temperature:g}"
            out.append(ContinuationSpec(name, direction, half, 0, temperature, scan=True))
    return out
