import pytest
import soundfile as sf

from harness.corpora.manifest import Utterance, write_manifest
from harness.speech.config import TokenizerConfig
from harness.speech.record import describe
from harness.speech.tokenizer import SpeechTokenizer
from harness.speech.training import train_tokenizer

CONFIG = TokenizerConfig(n_clusters=12, subwords="bpe", vocab_size=24, kmeans_n_init=1)


@pytest.fixture(autouse=True)
def own_home(empty_home):
    """No test sees another's cache."""


def test_train_on_a_corpus(audio_files, tmp_path):
    rows = [
        Utterance(
            id=p.stem, audio=p.name, sample_rate=16_000, seconds=sf.info(p).duration, text="a", speaker="s", split="x"
        )
        for p in audio_files
    ]
    write_manifest(tmp_path / "toy.jsonl", rows)
    name = str(tmp_path / "toy.jsonl")
    summary = train_tokenizer(name, "x", CONFIG, tmp_path / "tok", seed=0)
    loaded = SpeechTokenizer.load(tmp_path / "tok")
    assert (summary["system"], summary["vocab_size"], summary["trained_on"]["num_utterances"]) == (
        loaded.system,
        24,
        12,
    )
    assert summary["trained_on"]["corpus"] == "toy"
    assert 1 < summary["subwords_per_s"] < summary["units_per_s"] <= 25
    assert 6 < summary["units_seen"] <= 12
    few = train_tokenizer(name, "x", CONFIG, tmp_path / "few", seed=0, limit=8)
    assert few["trained_on"]["num_utterances"] == 8
    assert few == few | describe(tmp_path / "few")
