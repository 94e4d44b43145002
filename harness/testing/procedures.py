"""The contract of procedures: tasks that generate, or train and test."""
# ruff: noqa: S101 - assertions are what this module is for.

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from harness.config import build, parse_settings, plain
from harness.evaluation.evaluate import RunConfig, evaluate
from harness.evaluation.store import RowStore
from harness.model import load_model
from harness.results import Item, TaskResult
from harness.task import (
    Procedure,
    task_registry,
)
from harness.testing._checks import (
    METRIC_KEY,
    check_figures,
    check_info,
    check_item_values,
    check_options,
    refuses,
    repeated,
)


@functools.cache
def _procedure(name: str, settings: tuple[str, ...], model: str, corpus: str, split: str, limit: int) -> TaskResult:
    config = RunConfig((name,), corpus, split, limit=limit, settings=_settings(name, settings))
    return next(iter(evaluate(load_model(model), config).tasks.values()))


def _settings(name: str, settings: tuple[str, ...]) -> dict[str, Any]:
    return {task_registry().load(name).info.name: parse_settings(settings)}


class ProcedureContract:
    """What every procedure keeps. Subclass it, set `name`, and let pytest collect the subclass.

    Attributes:
        name: the task's registered name, or `path/to/file.py:TASK`.
        settings: options it is tried with, as after `--set <task>.`; cheap ones, so that the contract is fast.
        model: the card that it is run on.
        corpus: a corpus that has what the task needs.
        split: of the corpus.
        limit: items asked for.
    """

    name: str
    settings: tuple[str, ...] = ()
    model: str = "sutlm-tiny"
    corpus: str = "demo"
    split: str = "test"
    limit: int = 6

    def result(self) -> TaskResult:
        """What the task says of the model, computed once."""
        return _procedure(self.name, self.settings, self.model, self.corpus, self.split, self.limit)

    def again(self, **changes: Any) -> TaskResult:
        """The same, computed anew, with operational changes to the run or a store."""
        store, progress = changes.pop("store", None), changes.pop("progress", None)
        settings = _settings(self.name, self.settings)
        config = RunConfig((self.name,), self.corpus, self.split, limit=self.limit, settings=settings, **changes)
        found = evaluate(load_model(self.model), config, store=store, progress=progress)
        return next(iter(found.tasks.values()))

    def test_info_and_options(self) -> None:
        """As for tasks by likelihood."""
        task = task_registry().load(self.name)
        assert isinstance(task, Procedure)
        check_info(task.info, self.result().metrics)
        check_options(task.Options, self.name)

    def test_items_are_records_with_ids_of_their_own(self) -> None:
        """They go to JSON and come back the same."""
        items = self.result().items
        assert items
        assert repeated(i.id for i in items) == []
        lines = [json.dumps(item.data(), allow_nan=False) for item in items]
        assert plain([Item.of(json.loads(line), where="item") for line in lines]) == plain(items)

    def test_metric_keys_name_task_condition_and_metric(self) -> None:
        """In letters, digits, `_` and `.`, which every tracker takes."""
        result = self.result()
        keys = list(result.metrics)
        assert keys
        assert [k for k in keys if not (METRIC_KEY.fullmatch(k) and k.startswith(f"{result.task}."))] == []

    def test_values_of_items_average_to_their_metrics(self) -> None:
        """As for tasks by likelihood."""
        task = task_registry().load(self.name)
        options: Any = build(task.Options, parse_settings(self.settings), where=self.name)
        check_item_values(task, options, self.result().items, self.result().metrics)

    def test_figures_have_names_of_their_own_and_show_metrics_of_the_task(self) -> None:
        """As for tasks by likelihood."""
        check_figures(task_registry().load(self.name), self.result().items, self.result().metrics)

    def test_a_stopped_run_goes_on_and_ends_with_the_same_record(self, tmp_path: Path) -> None:
        """What was found before is used again, nothing is lost, and the batch size has no effect on results."""
        with RowStore(tmp_path / "rows.sqlite3") as store:
            reported: list[tuple[str, int, int]] = []

            def stop(what: str, done: int, total: int) -> None:
                reported.append((what, done, total))
                if len(reported) == 2:
                    raise KeyboardInterrupt

            if refuses(lambda: self.again(store=store, progress=stop), KeyboardInterrupt):
                store.commit()
                assert store.entries(), "a stopped run left nothing in the store"
            again = self.again(store=store, batch_tokens=512)
        assert plain(again.items) == plain(self.result().items)
        assert again.metrics == self.result().metrics
