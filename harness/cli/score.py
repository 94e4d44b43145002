"""`harness score`: scorers alone, on files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.arguments import command
from harness.cli.printing import print_json, print_table


def _score_ner(a: argparse.Namespace) -> int:
    from harness.metrics.ner import score_files

    scores = score_files(Path(a.gold), Path(a.pred), tags=None if a.tags == "auto" else a.tags)
    if a.json:
        print_json(scores.to_json())
        return 0
    from harness.report.tables import Table

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
    title = f"slue_ner, {len(f1.counts)} utterances; the label columns compare labels whatever the phrase"
    print_table(Table(title, columns, rows, left=frozenset({0})))
    return 0


def _score_sa(a: argparse.Namespace) -> int:
    from harness.metrics.classification import score_files

    scores = score_files(Path(a.gold), Path(a.pred))
    if a.json:
        print_json(scores.to_json())
        return 0
    from harness.report.tables import Table

    macro = ("macro", scores.macro_precision, scores.macro_recall, scores.macro_f1, len(scores.cells))
    classes = [(name, c.precision, c.recall, c.f1, c.support) for name, c in scores.per_class.items()]
    rows = tuple((name, *(f"{x:.2f}" for x in prf), str(n)) for name, *prf, n in [macro, *classes])
    title = f"slue_sa, in per cent: accuracy {scores.accuracy:.2f}, unparsable {scores.unparsable:.2f}"
    print_table(Table(title, ("", "precision", "recall", "F1", "items"), rows, left=frozenset({0})))
    return 0


def _score_repetition(a: argparse.Namespace) -> int:
    from harness.metrics.repetition import command

    scores = command(Path(a.outputs))
    if a.json:
        print_json(scores)
        return 0
    from harness.report.tables import Table

    rows = tuple((name, f"{value:.4f}") for name, value in scores.items())
    print_table(Table("repetition", ("metric", "value"), rows, left=frozenset({0})))
    return 0


def add_score(commands: Any) -> None:
    """Adds the parser of `harness score`."""
    tasks = commands.add_parser("score", help="score files of answers made elsewhere").add_subparsers(
        metavar="TASK", required=True
    )
    ner = command(
        tasks, "slue_ner", _score_ner, "score named entities as slue-toolkit does",
        "harness score slue_ner --gold gold.jsonl --pred pred.jsonl --json",
    )  # fmt: skip
    lines = '{"id", "entities": [[label, phrase], …]} or {"id", "text": "tagged text"} a line'
    ner.add_argument("--gold", required=True, metavar="FILE", help=f"the right entities: {lines}")
    ner.add_argument("--pred", required=True, metavar="FILE", help="the answers, in the same format")
    ner.add_argument(
        "--tags", choices=("auto", "inline", "raw", "combined"), default="auto",
        help="tags of texts: <PLACE> … </> (inline), or slue-toolkit's characters for raw or combined labels, "
        "%% … ] (default: what each file shows)",
    )  # fmt: skip
    sa = command(
        tasks, "slue_sa", _score_sa, "score sentiment as slue-toolkit does",
        "harness score slue_sa --gold gold.jsonl --pred pred.jsonl --json",
    )  # fmt: skip
    sa.add_argument("--gold", required=True, metavar="FILE", help='the right labels: {"id", "label"} a line')
    sa.add_argument("--pred", required=True, metavar="FILE", help="the answers, in the same format")
    repetition = command(
        tasks, "repetition", _score_repetition, "measure how much texts repeat themselves and each other",
        "harness score repetition --outputs outputs.jsonl --json",
    )  # fmt: skip
    repetition.add_argument("--outputs", required=True, metavar="FILE", help='the texts: {"id", "text"} a line')
