import json
from pathlib import Path

import pytest
import safetensors.torch

from harness.errors import CheckpointError
from harness.segments import AudioSpan
from harness.speech.config import TokenizerConfig
from harness.speech.record import describe
from harness.speech.tokenizer import SpeechTokenizer
from harness.speech.units import UnitSubwords

CONFIG = TokenizerConfig(n_clusters=12, subwords="bpe", vocab_size=24, kmeans_n_init=1)


@pytest.fixture(autouse=True)
def own_home(empty_home):
    """No test sees another's cache."""


def test_save_load_and_describe(trained, audio_files, tmp_path):
    trained.save(tmp_path / "tok", trained_on={"corpus": "toy"})
    loaded = SpeechTokenizer.load(tmp_path / "tok")
    assert (loaded.system, loaded.digest, loaded.vocab_size) == (trained.system, trained.digest, 24)
    assert loaded.config == trained.config
    spans = [AudioSpan(path) for path in audio_files]
    assert loaded.encode(spans, cache=False) == trained.encode(spans, cache=False)
    shown = describe(tmp_path / "tok")
    assert (shown["features"], shown["n_clusters"], shown["vocab_size"], shown["rate_hz"]) == ("mfcc", 12, 24, 25)
    assert shown["trained_on"] == {"corpus": "toy"}
    assert set(shown["versions"]) >= {"torch", "scikit-learn", "sentencepiece"}
    assert sorted(p.name for p in (tmp_path / "tok").iterdir()) == [
        "centroids.safetensors",
        "tokenizer.json",
        "units.model",
    ]


def swap_centroids(folder: Path) -> None:
    path = folder / "centroids.safetensors"
    safetensors.torch.save_file({"centroids": safetensors.torch.load_file(path)["centroids"].flip(0)}, path)


def edit_features(folder: Path) -> None:
    record = json.loads((folder / "tokenizer.json").read_text())
    record["config"]["features"]["n_mels"] = 41
    (folder / "tokenizer.json").write_text(json.dumps(record))


def drop_key(folder: Path) -> None:
    record = json.loads((folder / "tokenizer.json").read_text())
    del record["digests"]
    (folder / "tokenizer.json").write_text(json.dumps(record))


def other_subwords(folder: Path) -> None:
    UnitSubwords.train([[0, 1, 2, 3] * 5], n_units=12, vocab_size=14, kind="bpe").save(folder / "units.model")


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (swap_centroids, "was altered: its centroids"),
        (edit_features, "was altered: its extractor"),
        (other_subwords, "was altered: its subwords"),
        (drop_key, "lacks digests"),
        (lambda folder: (folder / "units.model").unlink(), "no unit subword model"),
        (lambda folder: (folder / "centroids.safetensors").unlink(), "no centroids"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "is not a speech tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"format": 99}'), "not of the tokenizer format"),
    ],
)
def test_altered_folders_are_refused(trained, tmp_path, alter, message):
    trained.save(tmp_path)
    alter(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        SpeechTokenizer.load(tmp_path)
