"""Evaluation harness for joint speech-unit + text language models.

    import harness

    result = harness.evaluate("sutlm-tiny", tasks=["cra"], corpus="demo", limit=50)
    result.to_frame()

Names are imported when they are first used: `import harness` loads neither torch nor any other large package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.version import __version__

if TYPE_CHECKING:
    from harness.by_name import evaluate, train
    from harness.corpora.corpus import open_corpus
    from harness.evaluation.evaluate import RunConfig
    from harness.model import load_model
    from harness.report.compare import compare
    from harness.results import Item, Metric, RunResult, read_results
    from harness.segments import Speech, Text
    from harness.task import Procedure, Request, Task

__all__ = [
    "Item",
    "Metric",
    "Procedure",
    "Request",
    "RunConfig",
    "RunResult",
    "Speech",
    "Task",
    "Text",
    "__version__",
    "compare",
    "evaluate",
    "load_model",
    "open_corpus",
    "read_results",
    "train",
]

#: Where each public name is defined.
_MODULES = {
    "Item": "harness.results",
    "Metric": "harness.results",
    "Procedure": "harness.task",
    "Request": "harness.task",
    "RunConfig": "harness.evaluation.evaluate",
    "RunResult": "harness.results",
    "Speech": "harness.segments",
    "Task": "harness.task",
    "Text": "harness.segments",
    "compare": "harness.report.compare",
    "evaluate": "harness.by_name",
    "load_model": "harness.model",
    "open_corpus": "harness.corpora.corpus",
    "read_results": "harness.results",
    "train": "harness.by_name",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'harness' has no attribute '{name}'; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
