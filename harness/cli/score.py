"""`harness score`: scorers alone, on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.arguments import Json, Quiet
from harness.cli.printing import print_json, print_table

Predictions = Annotated[str, typer.Option("--pred", metavar="FILE", help="the answers, in the same format")]


def slue_ner(
    *,
    gold: Annotated[
        str,
        typer.Option(
            "--gold",
            metavar="FILE",
            help='the right entities: {"id", "entities": [[label, phrase], …]} or {"id", "text": "tagged text"} a line',
        ),
    ],
    pred: Predictions,
    tags: Annotated[
        Literal["auto", "inline", "raw", "combined"],
        typer.Option(
            "--tags",
            metavar="TAGS",
            help="tags of texts: <PLACE> … </> (inline), or slue-toolkit's characters for raw or combined labels, "
            "% … ] (default: auto, what each file shows)",
        ),
    ] = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score named entities as slue-toolkit does.

    Example:
        harness score slue_ner --gold gold.jsonl --pred pred.jsonl --json
    """
    from harness.evaluation.score_files import score_entity_files

    scores = score_entity_files(Path(gold), Path(pred), tags=None if tags == "auto" else tags)
    if json:
        print_json(scores.to_json())
        return
    from harness.report.scores import entity_table

    print_table(entity_table("slue_ner", scores))


def slue_sa(
    *,
    gold: Annotated[str, typer.Option("--gold", metavar="FILE", help='the right labels: {"id", "label"} a line')],
    pred: Predictions,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score sentiment as slue-toolkit does.

    Example:
        harness score slue_sa --gold gold.jsonl --pred pred.jsonl --json
    """
    from harness.evaluation.score_files import score_sentiment_files

    scores = score_sentiment_files(Path(gold), Path(pred))
    if json:
        print_json(scores.to_json())
        return
    from harness.report.scores import class_table

    print_table(class_table("slue_sa", scores))


def repetition(
    *,
    outputs: Annotated[str, typer.Option("--outputs", metavar="FILE", help='the texts: {"id", "text"} a line')],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how much texts repeat themselves and each other.

    Example:
        harness score repetition --outputs outputs.jsonl --json
    """
    from harness.evaluation.score_files import score_repetition_file

    scores = score_repetition_file(Path(outputs))
    if json:
        print_json(scores)
        return
    from harness.report.scores import repetition_table

    print_table(repetition_table(scores))
