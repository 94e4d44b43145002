"""Parameters, metrics and tags in the form and in the sizes that MLflow takes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.config import flatten, plain

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Longest parameter shown; MLflow stores 6000 characters, which no table column can show. `protocol.json` has it whole.
_PARAM_CHARS = 1000
TAG_CHARS = 5000
#: How MLflow limits one request.
_PARAMS_PER_BATCH, METRICS_PER_BATCH = 100, 1000


def send(client: MlflowClient, run_id: str, *, params: Mapping[str, str], metrics: Sequence[Any] = ()) -> None:
    """Parameters and metrics in as few requests as MLflow allows."""
    from mlflow.entities import Param

    pairs = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(pairs), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=pairs[start : start + _PARAMS_PER_BATCH])
    for start in range(0, len(metrics), METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])


def as_points(values: Mapping[str, float], step: int, *, model_id: str | None = None) -> list[Any]:
    """Numbers as MLflow's metrics at a step, all with the present time."""
    from mlflow.entities import Metric as Point

    now = int(time.time() * 1000)
    return [Point(key, float(value), now, step, model_id=model_id) for key, value in values.items()]


def as_params(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as MLflow parameters: dotted legal names, JSON where not text, long values cut."""
    flat = flatten(plain(settings))
    return {re.sub(r"[^\w.\- ]", "_", key)[:250]: cut(as_text(value), _PARAM_CHARS) for key, value in flat.items()}


def as_text(value: Any) -> str:
    """A value as the text of a parameter: JSON where it is not text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str, limit: int) -> str:
    """`text`, or its start and an ellipsis where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tag_filter(key: str, value: str) -> str:
    """What finds runs with this tag."""
    quote = '"' if "'" in value else "'"
    return f"tags.`{key}` = {quote}{value}{quote}"
