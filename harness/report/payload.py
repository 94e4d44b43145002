"""The items of runs as data for the page's script."""

from __future__ import annotations

import base64
import json
import math
import mimetypes
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from markupsafe import Markup

from harness.report.labels import task_names
from harness.results import RunResult

Audio = Literal["link", "embed", "none"]

#: Fields that name an audio file or several, relative to the results folder or the corpus.
_AUDIO = re.compile(r"(^|[._])audio([._]|$)")
#: The page's item data stays below this, so that the file stays below 2 MB; what is left out is said.
_ITEM_BYTES = 1_400_000
_TEXT_CHARS = 2_000


class AudioFiles:
    """Where the audio of a run's items is, as the page refers to it."""

    def __init__(self, result: RunResult, folder: Path, output: Path, how: Audio) -> None:
        root = (result.protocol.get("corpus") or {}).get("root")
        self._places = [folder, *([Path(root)] if root else [])]
        self._output, self._how = output, how
        self._known: dict[str, str | None] = {}

    def find(self, name: object) -> str | None:
        """A link or `data:` URI; None where there is no such file, or none is wanted."""
        if self._how == "none" or not isinstance(name, str) or not name:
            return None
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> str | None:
        path = next((p / name for p in self._places if (p / name).is_file()), None)
        if path is None:
            return None
        if self._how == "embed":
            kind = mimetypes.guess_type(path.name)[0] or "audio/wav"
            return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        return quote(os.path.relpath(path.resolve(), self._output.parent.resolve()))


class _Strings:
    """Texts that occur once in the page, however many items share them."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """The index of a text."""
        if text not in self._places:
            self._places[text] = len(self.all)
            whole = len(text) <= _TEXT_CHARS or text.startswith("data:")
            self.all.append(text if whole else text[: _TEXT_CHARS - 1] + "…")
        return self._places[text]


def payload(
    results: Sequence[RunResult], labels: Sequence[str], sources: Sequence[AudioFiles], scores: Mapping[str, str]
) -> Markup:
    """The items for the page's script: JSON that cannot end the element it stands in.

    Args:
        results: runs with their items.
        labels: what they are called.
        sources: where the audio of each run is.
        scores: by task, the score by which items are shown at first.
    """
    wanted = max((len(t.items) for r in results for t in r.tasks.values()), default=0)
    while True:
        strings = _Strings()
        tasks = [
            {**_task_items(name, results, sources, strings, wanted), "score": scores.get(name, "")}
            for name in task_names(results)
        ]
        clips = {
            i: strings.all[i] for t in tasks for c in t["columns"] if c["kind"] == "audio" for i in _flat(c["values"])
        }
        data = {"runs": list(labels), "strings": strings.all, "tasks": tasks}
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        audio = sum(len(clip) for clip in clips.values() if clip.startswith("data:"))
        size = len(text.encode()) - audio
        if size <= _ITEM_BYTES or wanted <= 1:
            safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
            return Markup(safe)
        wanted = max(1, int(wanted * 0.95 * _ITEM_BYTES / size))


def _flat(values: Any) -> list[int]:
    if isinstance(values, list):
        return [i for inner in values for i in _flat(inner)]
    return [] if values is None else [values]


def _task_items(
    task: str, results: Sequence[RunResult], sources: Sequence[AudioFiles], strings: _Strings, wanted: int
) -> dict[str, Any]:
    """Items by column: a value for each item where all runs agree, else one for each run and item."""
    tables = [{i.id: i.columns() for i in r.tasks[task].items} if task in r.tasks else {} for r in results]
    everything = list(dict.fromkeys(i for table in tables for i in table))
    # An even sample of what does not fit, so that every condition stays in it.
    ids = (
        everything
        if len(everything) <= wanted
        else [everything[int(j * len(everything) / wanted)] for j in range(wanted)]
    )
    names = list(dict.fromkeys(n for table in tables for i in ids for n in table.get(i, ()) if n != "id"))
    columns = []
    for name in names:
        columns.append(
            _column(name, [[t.get(i, {}).get(name) for i in ids] for t in tables], tables, ids, sources, strings)
        )
    return {
        "name": task,
        "total": len(everything),
        "ids": [strings.place(str(i)) for i in ids],
        "roles": {
            role: next((n for n in names if n == role or n.startswith(f"{role}.")), None)
            for role in ("prompt", "reference", "output")
        },
        "columns": columns,
    }


def _column(
    name: str,
    values: list[list[Any]],
    tables: Sequence[Mapping[str, Any]],
    ids: Sequence[str],
    sources: Sequence[AudioFiles],
    strings: _Strings,
) -> dict[str, Any]:
    audio = bool(_AUDIO.search(name))
    if audio:
        values = [[source.find(v) for v in row] for source, row in zip(sources, values, strict=True)]
    numeric = all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for row in values for v in row)
    cells = [[_short(v) if numeric else None if v is None else strings.place(_text(v)) for v in row] for row in values]
    having = [row for row, table in zip(cells, tables, strict=True) if table]
    complete = all(i in table for table in tables if table for i in ids)
    shared = complete and all(row == having[0] for row in having[1:])
    kind = "audio" if audio else "number" if numeric else "text"
    return {"name": name, "kind": kind, "shared": shared, "values": having[0] if shared else cells}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: float | None) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return value if not math.isfinite(value) or value == 0 else float(f"{value:.4g}")
