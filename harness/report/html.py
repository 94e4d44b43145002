"""Pages that need no network: the report of runs, a comparison, leaderboards; one file each, from Jinja2 templates."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from harness.config import flatten, plain
from harness.errors import ComparisonError
from harness.report import comparison_tables, svg, tables
from harness.report.compare import Comparison, alone, compare
from harness.report.figures import Drawing, drawings, figures_of
from harness.report.labels import task_names
from harness.report.leaderboard import Leaderboard, board_table
from harness.report.payload import Audio, AudioFiles, payload
from harness.results import RunResult
from harness.task import AnyTask


def comparison_page(c: Comparison) -> str:
    """A comparison as a page."""
    return _render("comparison.html", title=comparison_tables.comparison_title(c), table=_rows(c), c=c)


def leaderboard_page(boards: Sequence[Leaderboard], experiment: str) -> str:
    """Leaderboards of an experiment as a page."""
    found = [(board, board_table(board)) for board in boards]
    return _render("leaderboard.html", title=f"Leaderboard of {experiment}", tables=found)


def report_page(
    results: Sequence[RunResult],
    labels: Sequence[str],
    *,
    tasks: Mapping[str, AnyTask],
    folders: Sequence[Path],
    output: Path,
    audio: Audio = "link",
    force: bool = False,
) -> str:
    """All that runs have to say, on one page.

    Args:
        results: runs with their items.
        labels: what they are called.
        tasks: by name; for figures and headline metrics.
        folders: their results folders, where generated audio lies.
        output: where the page will lie; audio is linked relative to it.
        audio: how items bring their audio.
        force: takes runs whose protocols differ, and marks them.

    Raises:
        ComparisonError: if there are more runs than colors, or their protocols differ and `force` is False.
    """
    if len(results) > svg.NUM_SERIES:
        raise ComparisonError(
            f"A report has colors for {svg.NUM_SERIES} runs; found {len(results)}. Choose some of them."
        )
    if len(results) == 1:
        summary = alone(results[0], labels[0], tasks=tasks)
        everything = alone(results[0], labels[0], tasks=tasks, metrics=["*"])
    else:
        summary = compare(results, labels, tasks=tasks, force=force)
        everything = compare(results, labels, tasks=tasks, force=force, metrics=["*"], num_resamples=1000)
    sources = [AudioFiles(r, f, output, audio) for r, f in zip(results, folders, strict=True)]
    return _render(
        "report.html",
        title=", ".join(labels),
        heading=f"Report of {len(labels)} runs" if len(labels) > 1 else labels[0],
        asked=_asked(results),
        c=summary,
        table=_rows(summary),
        everything=everything,
        everything_table=_rows(everything),
        figures=[(name, _figures(name, results, labels, tasks)) for name in task_names(results)],
        legend=svg.legend(labels),
        runs=[_about(r, label) for r, label in zip(results, labels, strict=True)],
        payload=payload(results, labels, sources, {name: task.info.item_score for name, task in tasks.items()}),
    )


def _figures(
    task: str, results: Sequence[RunResult], labels: Sequence[str], tasks: Mapping[str, AnyTask]
) -> dict[str, list[Drawing]]:
    """The drawings of a task, by their group; every run has its place, and so its color, whether it has the task."""
    runs = {
        label: (figures_of(tasks.get(task), r.tasks[task]), r.tasks[task].metrics) if task in r.tasks else ((), {})
        for r, label in zip(results, labels, strict=True)
    }
    groups: dict[str, list[Drawing]] = {}
    for drawn in drawings(runs):
        groups.setdefault(drawn.group, []).append(drawn)
    return groups


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=tables.number, marks=tables.given_marks, p=tables.p_text, pretty=_pretty, broken=_broken
    )
    environment.globals.update(
        better=comparison_tables.better,
        chance=comparison_tables.chance,
        decimals=comparison_tables.row_decimals,
        notes=comparison_tables.comparison_notes,
        raw=_raw,
    )
    return environment


def _raw(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text("utf-8"))


def _pretty(value: Any) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def _rows(c: Comparison) -> list[tuple[str, list[Any]]]:
    """The rows of each task, in a form that templates can walk through."""
    return [(task, list(rows)) for task, rows in itertools.groupby(c.rows, key=lambda row: row.task)]


def _broken(text: str) -> Markup:
    """A key that may be broken after its dots and underscores."""
    return Markup("<wbr>").join(re.findall(r"[^._]+[._]*|[._]+", text))


def _asked(results: Sequence[RunResult]) -> list[str]:
    """What was asked, task by task, in words."""
    found = []
    for name in task_names(results):
        task = next(r.tasks[name] for r in results if name in r.tasks)
        corpora = dict.fromkeys(f"{r.corpus['name']}:{r.corpus['split']}" for r in results if name in r.tasks)
        found.append(f"{name} on {', '.join(corpora)} ({task.n_expected:,} items)")
    return found


def _about(result: RunResult, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "result": result,
        "signatures": [task.signature for task in result.tasks.values()],
        "counts": [(name, t.n_expected, t.n_scored, t.n_failed) for name, t in result.tasks.items()],
        "command": command(result),
        "versions": result.protocol.get("versions") or {},
        "git": result.protocol.get("git") or "unknown",
    }


def command(result: RunResult) -> str:
    """The command line that asks the same question of the same model."""
    asked = result.protocol.get("run") or {}
    parts = [
        "harness",
        "run",
        "--model",
        str(result.model["name"]),
        "--tasks",
        ",".join(asked.get("tasks") or result.tasks),
    ]
    for option in ("corpus", "split", "limit", "seed"):
        if asked.get(option) is not None:
            parts += [f"--{option}", str(asked[option])]
    for key, value in flatten(asked.get("settings") or {}).items():
        if key:
            parts += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(parts)
