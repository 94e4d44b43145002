"""Tables of what `harness score` measures on files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.report.tables import Table

if TYPE_CHECKING:
    from harness.metrics.classification import ClassificationScores
    from harness.metrics.ner import NerScores


def entity_table(task: str, scores: NerScores) -> Table:
    """Precision, recall and F1 of named entities, micro, macro and by label, beside those of the labels alone."""
    f1, label_f1 = scores.f1, scores.label_f1
    counts = {label: (str(c.gold), str(c.predicted)) for label, c in f1.label_counts.items()}
    sums = tuple(str(sum(getattr(c, k) for c in f1.counts.values())) for k in ("gold", "predicted"))
    named = [("micro", f1.micro, label_f1.micro, sums), ("macro", f1.macro, label_f1.macro, ("", ""))]
    named += [(label, prf, label_f1.per_label[label], counts[label]) for label, prf in f1.per_label.items()]
    rows = tuple(
        (name, *(f"{x:.4f}" for prf in both for x in (prf.precision, prf.recall, prf.f1)), *count)
        for name, *both, count in named
    )
    columns = ("", "precision", "recall", "F1", "label precision", "label recall", "label-F1", "gold", "predicted")
    title = f"{task}, {len(f1.counts)} utterances; the label columns compare labels whatever the phrase"
    return Table(title, columns, rows, left=frozenset({0}))


def class_table(task: str, scores: ClassificationScores) -> Table:
    """Precision, recall and F1 of a task's classes in per cent, macro and by class."""
    macro = ("macro", scores.macro_precision, scores.macro_recall, scores.macro_f1, int(scores.confusion.sum()))
    classes = [(name, c.precision, c.recall, c.f1, c.support) for name, c in scores.per_class.items()]
    rows = tuple((name, *(f"{x:.2f}" for x in prf), str(n)) for name, *prf, n in [macro, *classes])
    title = f"{task}, in per cent: accuracy {scores.accuracy:.2f}, unparsable {scores.unparsable:.2f}"
    return Table(title, ("", "precision", "recall", "F1", "items"), rows, left=frozenset({0}))


def repetition_table(scores: Mapping[str, float]) -> Table:
    """Measures of repetition, one a row."""
    rows = tuple((name, f"{value:.4f}") for name, value in scores.items())
    return Table("repetition", ("metric", "value"), rows, left=frozenset({0}))
