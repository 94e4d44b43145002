"""Context retrieval accuracy: does the true continuation of a prompt rank first among those of other prompts?

After the retrieval evaluation of Chou et al. 2023 (arXiv 2310.08715); the protocol is ours, `sutlm-style`: see
docs/metrics.md. Each utterance is cut at the word boundary nearest its middle in time. For each first half (prompt) the
second halves of all utterances (candidates) are ranked by loglikelihood, in four directions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from statistics import fmean
from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.corpora.corpus import Corpus
from harness.errors import CorpusError, OptionError
from harness.figures import Figure, HeatMap
from harness.metrics.retrieval import (
    Ranks,
    Score,
    chance_cross_entropy,
    chance_rank,
    chance_recall_at,
    chance_reciprocal_rank,
    gold_cross_entropy,
    normalize,
    rank_of_gold,
)
from harness.results import Item, Metric
from harness.segments import DIRECTIONS, Direction, Modality, Text, modalities_of
from harness.stats import bootstrap_ci
from harness.task import Answer, Loglikelihoods, Ranking, RankScore, Request, Task, TaskInfo, Unscorable

from ._cra_figures import rank_figures
from ._directions import direction_grid
from ._halves import Halves, cut_in_halves, num_words, transcript, with_distinct_continuations

SCORES: tuple[Score, ...] = ("sum", "token_norm", "extent_norm", "pmi")
#: Loglikelihoods closer than this (nats) count as tied: it is float32 noise, not preference.
TIE = 1e-4
#: The tolerance is stated in nats of the sum; the other scores divide the sum.
_TOLERANCES: dict[Score, float] = {"sum": TIE, "token_norm": 0.0, "extent_norm": 0.0, "pmi": TIE}


@dataclass(frozen=True, config=STRICT)
class CraOptions:
    """The protocol of CRA.

    Attributes:
        n: prompts, drawn by seed from the split; `--limit` overrides it.
        directions: prompt modality → continuation modality, u speech units, t text.
        negatives: which other continuations compete: `random` ones, those of the `same_speaker`, or the
            `length_matched` ones whose second halves last closest to the gold's.
        num_candidates: candidates per prompt, the gold included; None: all there are.
        control: `shuffled_prompt` gives every prompt the continuation of another as gold, which must land at chance.
        min_words: shortest utterance that is cut.
        scores: those that candidates are ranked by; with fewer, more candidates can be left early.
        full_scores: every candidate is scored to its end, which adds `candidate_ce`; if false, those that end below the
            gold under every score may stop early, which changes no other number.
    """

    n: int = 100
    directions: tuple[Direction, ...] = DIRECTIONS
    negatives: Literal["random", "same_speaker", "length_matched"] = "random"
    num_candidates: int | None = None
    control: Literal["none", "shuffled_prompt"] = "none"
    min_words: int = 4
    scores: tuple[Score, ...] = SCORES
    full_scores: bool = False

    def __post_init__(self) -> None:
        if not self.scores or len(set(self.scores)) < len(self.scores):
            raise OptionError(f"cra.scores names at least one score, each once; found {list(self.scores)}.")
        if self.n < 2 or (self.num_candidates is not None and self.num_candidates < 2):
            raise OptionError(
                f"CRA needs at least 2 candidates; found n={self.n}, num_candidates={self.num_candidates}."
            )
        if self.min_words < 2:
            raise OptionError(f"An utterance of one word has no two halves; found min_words={self.min_words}.")
        if self.negatives == "length_matched" and self.num_candidates is None:
            raise OptionError(
                "cra.negatives=length_matched chooses the candidates closest in length; say how many with "
                "cra.num_candidates, else every continuation competes."
            )
        if self.n > 20_000 and self.num_candidates is None:
            raise OptionError(
                f"CRA over {self.n} prompts means {self.n**2:.0e} pairs; set num_candidates or a smaller n."
            )


@plain_dataclass(frozen=True)
class CraExample(Halves):
    """A prompt with its candidates.

    Attributes:
        candidates: positions in the list of examples, the gold among them.
        gold: place of the gold in `candidates`.
    """

    candidates: tuple[int, ...] = ()
    gold: int = 0

    def extent(self, modality: Modality) -> float:
        """Seconds of the continuation's speech or characters of its text."""
        segment = self.continuation[modality]
        return float(len(segment.text)) if isinstance(segment, Text) else self.seconds


class Cra:
    """The task; see the module's docstring."""

    info = TaskInfo(
        name="cra",
        version=2,
        description="context retrieval accuracy: rank the true continuation among N, in u2u, u2t, t2u, t2t",
        source="after Chou et al. 2023, arXiv 2310.08715; protocol sutlm-style",
        headline=tuple(f"cra.{d}.{s}.r_at_1" for d in DIRECTIONS for s in SCORES),
        main=tuple(f"cra.{d}.pmi.r_at_1" for d in DIRECTIONS),
        item_score="ranks.pmi.rank",
    )
    Options = CraOptions

    def examples(self, corpus: Corpus, options: CraOptions, *, limit: int | None, seed: int) -> list[CraExample]:
        """Cut utterances with their candidate lists.

        Raises:
            CorpusError: if fewer than 2 utterances can be cut, or word times are missing where speech is asked for.
        """
        needs_times = any("u" in d for d in options.directions) or options.negatives == "length_matched"
        # By id, so that neither draws nor which of two twins stays depend on the manifest's order.
        utterances = sorted((u for u in corpus.utterances if num_words(u) >= options.min_words), key=lambda u: u.id)
        instead = "cra.directions=[t2t] and cra.negatives=random"
        halves = [cut_in_halves(corpus, u, needs_times=needs_times, instead=instead) for u in utterances]
        # A second half that occurs twice would be a wrong negative of its own twin.
        cut = [CraExample(**vars(h)) for h in with_distinct_continuations(halves)]
        wanted = limit if limit is not None else options.n
        if len(cut) < 2 or wanted < 2:
            raise CorpusError(
                f"CRA needs at least 2 utterances of {options.min_words} words or more; {corpus.name}:{corpus.split} "
                f"offers {len(cut)}, asked for {wanted}."
            )
        if wanted < len(cut):
            cut = sorted(random.Random(f"cra {seed}").sample(cut, wanted), key=lambda e: e.id)
        golds = _derangement(len(cut), seed) if options.control == "shuffled_prompt" else range(len(cut))
        return [_with_candidates(cut, i, gold, options, seed) for i, gold in enumerate(golds)]

    def requests(
        self, examples: Sequence[CraExample], options: CraOptions, *, modalities: frozenset[Modality]
    ) -> list[Request]:
        """For each direction the likelihoods without a prompt, then one request per prompt."""
        out = []
        for direction in _possible(options, modalities):
            source, target = modalities_of(direction)
            pool = tuple(e.continuation[target] for e in examples)
            everything = tuple(range(len(pool)))
            prior = Request(f"{direction}/prior", (), source, target, pool, everything)
            scores = _rank_scores(options.scores, tuple(e.extent(target) for e in examples), prior.id)
            out.append(prior)
            for e in examples:
                ranking = None if options.full_scores else Ranking(e.gold, scores)
                prompt = (e.prompt[source],)
                out.append(Request(f"{direction}/{e.id}", prompt, source, target, pool, e.candidates, ranking))
        return out

    def score(self, examples: Sequence[CraExample], options: CraOptions, answers: Mapping[str, Answer]) -> list[Item]:
        """One record per prompt and direction: ranks under every score, and what the gold itself got."""
        items: list[Item] = []
        for direction in options.directions:
            prior = answers.get(f"{direction}/prior")
            if prior is None:
                continue  # a direction that the model's modalities rule out
            for example in examples:
                answer = answers[f"{direction}/{example.id}"]
                item = Item(f"{direction}/{example.id}", group=example.speaker, extra={"direction": direction})
                if isinstance(prior, Unscorable) or isinstance(answer, Unscorable):
                    reasons = [a.reason for a in (prior, answer) if isinstance(a, Unscorable)]
                    items.append(replace(item, failed=reasons[0]))
                else:
                    items.append(_scored(item, examples, example, direction, answer, prior, options))
        return items

    def summarize(self, items: Sequence[Item], options: CraOptions, *, seed: int) -> dict[str, Metric]:
        """Means over prompts with intervals clustered by speaker; median rank likewise."""
        metrics: dict[str, Metric] = {}
        for direction in options.directions:
            rows = [i for i in items if i.extra["direction"] == direction]
            if rows:
                metrics |= _summarize_direction(direction, rows, seed)
        return metrics

    def item_values(self, items: Sequence[Item], options: CraOptions) -> dict[str, dict[str, float]]:
        """What each prompt adds to every metric but the median rank."""
        values: dict[str, dict[str, float]] = {}
        for item in items:
            for key, value in _values(item).items():
                values.setdefault(f"cra.{item.extra['direction']}.{key}", {})[item.id] = value
        return values

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> list[Figure]:
        """R@1 by direction; for each score R@k and a histogram of the golds' ranks."""
        matrix = HeatMap(name="r_at_1", title="R@1", keys=direction_grid("cra.{}.pmi.r_at_1"))
        return [matrix, *rank_figures(items)]


def _values(item: Item) -> dict[str, float]:
    """What one item adds to the metrics of its direction that are means."""
    values: dict[str, float] = {}
    for score in item.scores["ranks"]:
        ranks = _ranks(item, score)
        values |= {f"{score}.r_at_{k}": ranks.recall_at(k) for k in (1, 5)}
        values[f"{score}.mrr"] = ranks.reciprocal
    values |= {f"{score}.candidate_ce": ce for score, ce in item.scores.get("candidate_ce", {}).items()}
    return {**values, "gold_nll": item.scores["gold_nll"], "gold_pmi": item.scores["gold_pmi"]}


def _ranks(item: Item, score: Score) -> Ranks:
    counts = item.scores["ranks"][score]
    return Ranks(better=counts["better"], tied=counts["tied"], num_candidates=int(item.scores["num_candidates"]))


def _summarize_direction(direction: str, rows: Sequence[Item], seed: int) -> dict[str, Metric]:
    groups = [r.group for r in rows]
    counts = [int(r.scores["num_candidates"]) for r in rows]
    values = [_values(r) for r in rows]
    out: dict[str, Metric] = {}

    def add(key: str, higher: bool, chance: float | None, share: bool = False) -> None:
        support = (0.0, 1.0) if share else None
        interval = bootstrap_ci([v[key] for v in values], groups, seed=seed, support=support)
        out[f"cra.{direction}.{key}"] = interval.metric(higher_is_better=higher, chance=chance)

    for score in rows[0].scores["ranks"]:
        for k in (1, 5):
            add(f"{score}.r_at_{k}", True, fmean(chance_recall_at(k, n) for n in counts), share=True)
        add(f"{score}.mrr", True, fmean(chance_reciprocal_rank(n) for n in counts), share=True)
        mids = [_ranks(r, score).mid for r in rows]
        median = bootstrap_ci(mids, groups, seed=seed, statistic="median")
        chance = float(np.median([chance_rank(n) for n in counts]))
        out[f"cra.{direction}.{score}.median_rank"] = median.metric(higher_is_better=False, chance=chance)
    for score in ("sum", "pmi") if "candidate_ce" in rows[0].scores else ():
        level = fmean(chance_cross_entropy(n) for n in counts) if score == "pmi" else None
        add(f"{score}.candidate_ce", False, level)
    add("gold_nll", False, None)
    add("gold_pmi", True, 0.0)
    return out


def _rank_scores(names: Sequence[Score], extents: tuple[float, ...], prior: str) -> tuple[RankScore, ...]:
    """The scores, as the engine needs to know them to leave out candidates that cannot reach the gold."""
    kinds: dict[Score, RankScore] = {
        "sum": RankScore(tolerance=_TOLERANCES["sum"]),
        "token_norm": RankScore("tokens", tolerance=_TOLERANCES["token_norm"]),
        "extent_norm": RankScore(extents, tolerance=_TOLERANCES["extent_norm"]),
        "pmi": RankScore(prior=prior, tolerance=_TOLERANCES["pmi"]),
    }
    return tuple(kinds[name] for name in names)


def _scored(
    item: Item,
    examples: Sequence[CraExample],
    example: CraExample,
    direction: str,
    answer: Loglikelihoods,
    prior: Loglikelihoods,
    options: CraOptions,
) -> Item:
    _, target = modalities_of(direction)
    chosen = [examples[i] for i in example.candidates]
    extent = np.array([c.extent(target) for c in chosen])
    prior_values = prior.values[list(example.candidates)]
    scores = {
        name: normalize(answer.values, name, num_tokens=answer.num_tokens, extent=extent, prior=prior_values)
        for name in SCORES
    }
    # A candidate that stopped early counts by an upper bound, which is below the gold under every score asked for.
    ranks = {n: rank_of_gold(scores[n], example.gold, tolerance=_TOLERANCES[n]) for n in options.scores}
    top = chosen[int(np.argmax(scores["pmi" if "pmi" in options.scores else options.scores[0]]))]
    spread = {"candidate_ce": {n: gold_cross_entropy(scores[n], example.gold) for n in ("sum", "pmi")}}
    values = {
        "num_candidates": len(chosen),
        "ranks": {n: {"rank": r.mid, "better": r.better, "tied": r.tied} for n, r in ranks.items()},
        "gold_loglikelihood": float(answer.values[example.gold]),
        "gold_tokens": int(answer.num_tokens[example.gold]),
        "gold_extent": float(extent[example.gold]),
        "gold_nll": float(-answer.values[example.gold] / extent[example.gold]),
        "gold_pmi": float(scores["pmi"][example.gold]),
        **(spread if options.full_scores else {}),
    }
    return replace(
        item,
        prompt=transcript(example.prompt),
        reference=transcript(chosen[example.gold].continuation),
        output=transcript(top.continuation),
        scores=values,
        extra={**item.extra, **({"audio": example.audio} if example.audio else {})},
    )


def _possible(options: CraOptions, modalities: frozenset[Modality]) -> list[Direction]:
    possible = [d for d in options.directions if set(modalities_of(d)) <= modalities]
    if not possible:
        raise OptionError(
            f"A model of {' and '.join(sorted(modalities))} has none of the directions {', '.join(options.directions)}."
        )
    return possible


def _derangement(n: int, seed: int) -> list[int]:
    order = list(range(n))
    random.Random(f"cra control {seed}").shuffle(order)
    # One cycle through all: no prompt keeps its own.
    following = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [following[i] for i in range(n)]


def _with_candidates(
    examples: Sequence[CraExample], index: int, gold: int, options: CraOptions, seed: int
) -> CraExample:
    others = [i for i in range(len(examples)) if i != gold]
    if options.control == "shuffled_prompt":
        # The prompt's own continuation would not be a chance competitor.
        others = [i for i in others if i != index]
    if options.negatives == "same_speaker":
        others = [i for i in others if examples[i].speaker == examples[gold].speaker]
    if options.negatives == "length_matched":
        others.sort(key=lambda i: (abs(examples[i].seconds - examples[gold].seconds), examples[i].id))
    keep = len(others) if options.num_candidates is None else options.num_candidates - 1
    if len(others) < max(keep, 1):
        raise CorpusError(
            f"Prompt '{examples[index].id}' has {len(others)} negatives of kind {options.negatives}, "
            f"{max(keep, 1)} were asked for; lower cra.num_candidates or raise cra.n."
        )
    if options.negatives != "length_matched" and keep < len(others):
        others = random.Random(f"cra negatives {seed} {examples[index].id}").sample(others, keep)
    candidates = tuple(sorted([gold, *others[:keep]]))
    e = examples[index]
    return replace(e, candidates=candidates, gold=candidates.index(gold))


TASK: Task[CraOptions, CraExample] = Cra()
