"""Metrics of PELM: what its items hold, summed up, with intervals over speakers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from harness.metrics import agreement, repetition
from harness.metrics.agreement import Floats
from harness.metrics.repetition import words_of
from harness.results import Item, Metric
from harness.stats import bootstrap_ci, bootstrap_sums_ci

#: Metrics that are means over the outputs that have them, with their direction of better and their support.
_MEANS: dict[str, tuple[bool | None, tuple[float, float] | None]] = {
    "nll_mean": (False, None),
    "given_prompt.nll_mean": (False, None),
    "empty_share": (False, (0.0, 1.0)),
    "switched_share": (None, (0.0, 1.0)),
    "auto_bleu": (False, (0.0, 100.0)),
    "self_bleu": (False, (0.0, 100.0)),
    "copied_lcs": (False, (0.0, 100.0)),
    "copied_2grams": (False, (0.0, 100.0)),
    "chrf": (True, (0.0, 100.0)),
    "retrieval.r_at_1": (True, (0.0, 1.0)),
}


def values_of(item: Item) -> dict[str, float]:
    """What an item adds to the metrics that are means, by their names."""
    found = {
        "empty_share": float(not item.output),
        "auto_bleu": item.scores["auto_bleu"],
        "self_bleu": item.scores["self_bleu"],
    }
    if "nll" in item.scores:
        for scope, prefix in (("alone", ""), ("given_prompt", "given_prompt.")):
            found[f"{prefix}nll_mean"] = item.scores["nll"][scope] / item.scores["num_words"]
    if item.extra["kind"] == "output":
        found |= {
            "switched_share": float(item.scores["switched"]),
            "chrf": item.scores["chrf"],
            "retrieval.r_at_1": item.scores["retrieved"],
        }
        found |= {name: item.scores[name] for name in ("copied_lcs", "copied_2grams") if name in item.scores}
    return found


class Summary:
    """Metrics of items of one kind, keyed `<prefix>.<metric>`."""

    def __init__(self, prefix: str, rows: Sequence[Item], seed: int) -> None:
        self.prefix, self.rows, self.seed = prefix, sorted(rows, key=lambda r: r.id), seed
        self.metrics: dict[str, Metric] = {}

    def judged(self) -> None:
        """Perplexity in both scopes, share of empty texts, repetition."""
        for scope, prefix in (("alone", ""), ("given_prompt", "given_prompt.")):
            with_words = [r for r in self.rows if "nll" in r.scores]
            if with_words:
                sums = [[r.scores["nll"][scope], r.scores["num_words"]] for r in with_words]
                self._add_perplexity(f"{prefix}ppl_corpus", with_words, sums)
                each = [a / b for a, b in sums]
                self._add(f"{prefix}nll_median", with_words, each, higher=False, statistic="median")
        self._add_means()
        self._add_sums(
            "vert",
            self.rows,
            [[r.scores["self_bleu"], r.scores["auto_bleu"], 1] for r in self.rows],
            _vert,
            higher=False,
        )
        runs = itertools.groupby(sorted(self.rows, key=lambda r: int(r.extra["seed"])), lambda r: r.extra["seed"])
        words = [[words_of(r.output) for r in run] for _, run in runs]
        if all(any(len(w) > 1 for w in run) for run in words):
            value = sum(map(repetition.distinct, words)) / len(words)
            self.metrics[f"{self.prefix}.distinct_2"] = Metric(value, len(self.rows), higher_is_better=True)

    def outputs(self, num_references: int) -> None:
        """Agreement with the references, which only outputs of the model are measured by."""
        chance = 1 / num_references if num_references else None
        key = f"{self.prefix}.retrieval.r_at_1"
        found = self.metrics[key]
        self.metrics[key] = Metric(found.value, found.n, True, ci95=found.ci95, chance=chance)
        counts = [r.scores["bleu_counts"] for r in self.rows]
        if sum(c[7] for c in counts):
            self._add_sums("bleu", self.rows, counts, agreement.corpus_bleu, higher=True)
        self.error_rates()

    def error_rates(self) -> None:
        """Errors against the references in words, and in characters and tokens where these were counted."""
        for name, what in (("wer", "word"), ("cer", "character"), ("ter", "token")):
            if all(f"{what}_errors" in r.scores for r in self.rows):
                sums = [[r.scores[f"{what}_errors"], r.scores[f"reference_{what}s"]] for r in self.rows]
                self._add_sums(name, self.rows, sums, agreement.error_rate, higher=False)

    def at_vert(self, rows: Sequence[Item], limit: float) -> None:
        """Perplexity at the lowest temperature whose outputs have a VERT within the limit.

        Between neighboring temperatures, one above the limit and the next within it, log-perplexity is taken as linear
        in VERT. Where no temperature is within it, there is no such perplexity, and `reached` is 0.
        """
        by_temperature: dict[float, list[Item]] = {}
        for row in rows:
            by_temperature.setdefault(row.extra["temperature"], []).append(row)
        found, before = None, None
        for _, own in sorted(by_temperature.items()):
            vert, log = vert_of(own), _log_perplexity(own)
            if log is not None and vert <= limit:
                if before is not None:
                    log = before[1] + (before[0] - limit) / (before[0] - vert) * (log - before[1])
                found = math.exp(log)
                break
            before = None if log is None else (vert, log)
        key, n = f"{self.prefix}.at_reference_vert", len(rows)
        if found is not None:
            self.metrics[f"{key}.ppl_corpus"] = Metric(found, n, higher_is_better=False)
        self.metrics[f"{key}.reached"] = Metric(float(found is not None), n, higher_is_better=True)

    def _add_means(self) -> None:
        means = {r.id: values_of(r) for r in self.rows}
        for name, (higher, support) in _MEANS.items():
            rows = [r for r in self.rows if name in means[r.id]]
            if rows:
                self._add(name, rows, [means[r.id][name] for r in rows], higher=higher, support=support)

    def _add(
        self,
        name: str,
        rows: Sequence[Item],
        values: Sequence[float],
        *,
        higher: bool | None,
        statistic: Literal["mean", "median"] = "mean",
        support: tuple[float, float] | None = None,
    ) -> None:
        groups = [r.group for r in rows]
        interval = bootstrap_ci(values, groups, seed=self.seed, statistic=statistic, support=support)
        self.metrics[f"{self.prefix}.{name}"] = interval.metric(higher_is_better=higher)

    def _add_sums(
        self,
        name: str,
        rows: Sequence[Item],
        sums: Sequence[Sequence[float]],
        statistic: Callable[[Floats], Floats],
        *,
        higher: bool,
    ) -> None:
        found = bootstrap_sums_ci(sums, statistic, [r.group for r in rows], seed=self.seed)
        # None of these is below 0; an interval by standard errors does not know.
        bounds = found.bounds and (max(0.0, found.bounds[0]), max(0.0, found.bounds[1]))
        self.metrics[f"{self.prefix}.{name}"] = Metric(found.value, found.n, higher, ci95=bounds)

    def _add_perplexity(self, name: str, rows: Sequence[Item], sums: Sequence[Sequence[float]]) -> None:
        """The exponential of nats per word; so are the ends of its interval."""
        found = bootstrap_sums_ci(sums, _nats_per_word, [r.group for r in rows], seed=self.seed)
        bounds = found.bounds and (math.exp(found.bounds[0]), math.exp(found.bounds[1]))
        self.metrics[f"{self.prefix}.{name}"] = Metric(math.exp(found.value), found.n, False, ci95=bounds)


def _nats_per_word(sums: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _vert(sums: Floats) -> Floats:
    return np.asarray(np.sqrt(sums[..., 0] * sums[..., 1]) / sums[..., 2])


def vert_of(rows: Sequence[Item]) -> float:
    """VERT of texts, per cent: the geometric mean of self-BLEU and auto-BLEU, each averaged (Lakhotia et al. 2021)."""
    return float(_vert(np.array([[r.scores["self_bleu"], r.scores["auto_bleu"], 1.0] for r in rows]).sum(0)))


def _log_perplexity(rows: Sequence[Item]) -> float | None:
    judged = [r for r in rows if "nll" in r.scores]
    return (
        sum(r.scores["nll"]["alone"] for r in judged) / sum(r.scores["num_words"] for r in judged) if judged else None
    )
