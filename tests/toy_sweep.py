"""A sweep of a real, very small training: a dozen spoken sentences, one layer, a second a trial."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from harness.config import build
from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import write_manifest
from harness.mixing.spec import SweepSpec
from harness.sweep import TerminatedError, Worker, open_sweep
from harness.tracking import TrackingConfig, load_tracking_config

TRAIN, DEV = 12, 4


def toy_folder(folder: Path) -> Path:
    """Fills `folder` with utterances of demo and the card of a tiny proxy."""
    demo = open_corpus("demo", "test")
    for name, utterances in [("train", demo.utterances[:TRAIN]), ("dev", demo.utterances[TRAIN : TRAIN + DEV])]:
        for utterance in utterances:
            (folder / utterance.audio).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(demo.audio_path(utterance), folder / utterance.audio)
        write_manifest(folder / f"{name}.jsonl", utterances)
    card = {
        "name": "toy",
        "adapter": "sutlm",
        "tokenizers": {
            "speech": {"n_clusters": 20, "subwords": "bpe", "vocab_size": 60, "kmeans_n_init": 1},
            "text": {"kind": "bpe", "vocab_size": 80},
        },
        "architecture": {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "ffn_size": 32, "context": 256},
        "training": {
            "train": [f"{folder}/train.jsonl:test"],
            "dev": [f"{folder}/dev.jsonl:test"],
            "batch_tokens": 256,
            "row_tokens": 256,
            "learning_rate": 0.01,
            "warmup_steps": 2,
            "schedule": "wsd",
            "eval_every": 20,
            "checkpoint_every": 5,
        },
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(card))
    return folder


def toy_spec(folder: Path, **changes) -> SweepSpec:
    """Three parts, ten designed mixtures and more, evaluated by retrieval among four texts."""
    return build(SweepSpec, toy_data(folder, **changes), where="toy sweep")


def toy_data(folder: Path, **changes) -> dict[str, Any]:
    """The same as in YAML."""
    data = {
        "name": "toy",
        "card": str(folder / "toy.yaml"),
        "tokens": 256 * 40,
        "parts": {"speech": {}, "text": {}, "ast": {}},
        "max_epochs": 100,
        "corpus": str(folder / "dev.jsonl"),
        "split": "test",
        "tasks": {"cra": {"n": 4, "directions": ["t2t", "u2t"], "full_scores": True}},
        "objectives": ["cra.t2t.gold_nll"],
        "trials": 6,
        "sampler": {"lattice": 10},
    }
    return {**data, **changes}


def quick_faults(**changes) -> TrackingConfig:
    """Tracking as configured, with a worker taken for dead after three seconds of silence."""
    return load_tracking_config(overrides={"sweep": {"heartbeat_s": 1, "grace_s": 3, "max_retry": 8, **changes}})


def work(folder: Path, storage: str | None, home: str) -> None:
    """The life of a worker process; ends like `harness sweep worker` does."""
    os.environ["HARNESS_HOME"] = home
    import torch

    torch.set_num_threads(1)
    sweep = open_sweep(folder, quick_faults(storage=storage))
    try:
        Worker(sweep, say=lambda line: None).run()
    except TerminatedError:
        raise SystemExit(0) from None
