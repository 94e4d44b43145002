"""Trained checkpoints in MLflow's model registry."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import file_digest, home, plain, read_yaml
from harness.errors import UsageError
from harness.files import lock_of, new_folder, write_text
from harness.tracking.config import TrackingConfig
from harness.tracking.fields import as_params
from harness.tracking.storage import (
    LOOK_AGAIN,
    TrackingError,
    existing_is_fine,
    open_experiment,
    reported,
    silence,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.model import ModelCard

#: Tag of a version: the logged model that it is. Not every store of MLflow keeps the version's own field.
_MODEL_ID = "model_id"
#: The card of a registered model, beside its checkpoint.
_CARD = "registered.yaml"
#: MLflow keeps `latest` and versions for itself.
_ALIAS = re.compile(r"(?!(latest|v\d+)$)[\w-]{1,256}", re.ASCII | re.IGNORECASE)
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")


def register_model(
    config: TrackingConfig, card: ModelCard, name: str, *, fingerprint: str, aliases: Sequence[str] = ()
) -> str:
    """Puts a checkpoint with its card into the store as a model and a version of `name`: `models:/name/version`.

    Raises:
        UsageError: if `name` or an alias is none that MLflow takes.
        CheckpointError: if the card has no weights.
        TrackingError: if it could not be stored.
    """
    if re.search(r"[/:]", name) or not name.strip():
        raise UsageError(f"'{name}' cannot name a registered model: leave out '/' and ':'; give another --name.")
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise UsageError(
                f"'{alias}' cannot be an alias: letters, digits, '_' and '-', and neither 'latest' nor a version "
                "such as 'v1'; give another --alias."
            )
    card.require_checkpoint()
    with reported(f"Registering '{name}'", config, remedy=LOOK_AGAIN):
        client, experiment = open_experiment(config)
        return register(client, config, experiment, card, name, fingerprint, aliases, run_id=None)


def register(
    client: MlflowClient,
    config: TrackingConfig,
    experiment: str,
    card: ModelCard,
    name: str,
    fingerprint: str,
    aliases: Sequence[str],
    *,
    run_id: str | None,
) -> str:
    """`register_model` with an open client, checked names and the training run that made the checkpoint, if any."""
    import yaml

    facts = {key: value for key, value in plain(card).items() if key != "folder" and value not in ("", None, {})}
    weights = card.checkpoint_path / "model.safetensors"
    if card.sha256 is None and weights.is_file():
        facts["sha256"] = file_digest(weights)
    tags = {"fingerprint": fingerprint, "adapter": card.adapter, "card": card.name}
    made = client.create_logged_model(
        experiment, name=re.sub(r"[/:.%\"']", "_", name), source_run_id=run_id, tags=tags,
        params=as_params({"architecture": card.architecture, "training": card.training}), model_type=card.adapter,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        if card.needs_checkpoint:
            client.log_model_artifacts(made.model_id, str(card.checkpoint_path))
            facts["checkpoint"] = "."
        Path(scratch, _CARD).write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), "utf-8")
        client.log_model_artifact(made.model_id, str(Path(scratch, _CARD)))
    client.finalize_logged_model(made.model_id, "READY")
    with existing_is_fine():
        client.create_registered_model(name)
    source, tags = f"models:/{made.model_id}", {**tags, _MODEL_ID: made.model_id}
    with _default_store(config):
        version = client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=made.model_id)
    for alias in aliases:
        client.set_registered_model_alias(name, alias, version.version)
    return f"models:/{name}/{version.version}"


@contextmanager
def _default_store(config: TrackingConfig) -> Iterator[None]:
    """MLflow looks a version's source up in its default store, whatever store the client has."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = config.uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def is_registered(name: str) -> bool:
    """Whether `name` is written as a registered model: `models:/name/3` or `models:/name@alias`."""
    return name.startswith("models:/")


def fetch_model(config: TrackingConfig, uri: str) -> Path:
    """The card of a registered model, whose checkpoint is copied under `$HARNESS_HOME/registry` once.

    The card's name becomes `<name>-v<version>`, so that two versions have different names.

    Raises:
        UsageError: if `uri` is neither `models:/name/version` nor `models:/name@alias`.
        TrackingError: if the registry has no such version, or it was not registered by the harness.
    """
    asked = _MODEL_URI.fullmatch(uri)
    if asked is None:
        raise UsageError(f"'{uri}' names no registered model; write models:/NAME/VERSION or models:/NAME@ALIAS.")
    name = asked["name"]
    with reported(f"Fetching {uri}", config, remedy=LOOK_AGAIN):
        silence()
        from mlflow import MlflowClient
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client = MlflowClient(tracking_uri=config.uri)
        version = (
            client.get_model_version(name, asked["version"])
            if asked["version"]
            else client.get_model_version_by_alias(name, asked["alias"])
        )
        model_id = version.tags.get(_MODEL_ID)
        if not model_id:
            raise TrackingError(f"{uri} was not registered by 'harness register': it has no card.")
        folder = home() / "registry" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-v{version.version}-{model_id[-12:]}"
        with lock_of(folder):
            if not folder.is_dir():
                location = client.get_logged_model(model_id).artifact_location
                with new_folder(folder) as part:
                    get_artifact_repository(location, tracking_uri=config.uri).download_artifacts("", str(part))
    _name_card(folder / _CARD, f"{name}-v{version.version}", uri)
    return folder / _CARD


def _name_card(path: Path, name: str, uri: str) -> None:
    import yaml

    if not path.is_file():
        raise TrackingError(f"{uri} was not registered by 'harness register': it has no card.")
    facts = read_yaml(path)
    if facts.get("name") != name:
        write_text(path, yaml.safe_dump({**facts, "name": name}, sort_keys=False, allow_unicode=True))
