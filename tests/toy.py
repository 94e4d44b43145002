"""A corpus and a card so small that a real training takes seconds: a dozen spoken sentences, one layer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import write_manifest

TRAIN = 12


def copy_utterances(folder: Path, *, dev: int) -> None:
    """The first utterances of demo's test split, with their audio, as `train.jsonl` and so many more as `dev.jsonl`."""
    demo = open_corpus("demo", "test")
    for name, utterances in [("train", demo.utterances[:TRAIN]), ("dev", demo.utterances[TRAIN : TRAIN + dev])]:
        for utterance in utterances:
            (folder / utterance.audio).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(demo.audio_path(utterance), folder / utterance.audio)
        write_manifest(folder / f"{name}.jsonl", utterances)


def toy_card(folder: Path, **training: Any) -> dict[str, Any]:
    """A card that trains on the utterances in `folder`."""
    return {
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
            "row_tokens": 256,
            **training,
        },
    }


def card_for(folder: Path) -> dict[str, Any]:
    """The same for two steps, with the checkpoint beside it."""
    return {**toy_card(folder, steps=2, batch_tokens=512), "checkpoint": "checkpoint"}
