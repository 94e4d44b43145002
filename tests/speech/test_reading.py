import pytest

from harness.speech.config import TokenizerConfig
from harness.speech.kmeans import train_kmeans
from harness.speech.tokenizer import SpeechTokenizer

CONFIG = TokenizerConfig(n_clusters=12, subwords="bpe", vocab_size=24, kmeans_n_init=1)


@pytest.fixture(autouse=True)
def own_home(empty_home):
    """No test sees another's cache."""


def test_k_means_sees_no_more_frames_than_asked(waves, monkeypatch):
    seen: list[int] = []

    def counting(features, *arguments, **settings):
        seen.append(len(features))
        return train_kmeans(features, *arguments, **settings)

    monkeypatch.setattr("harness.speech.tokenizer.train_kmeans", counting)
    SpeechTokenizer.train(waves, TokenizerConfig(n_clusters=5, subwords="none", kmeans_frames=123), seed=0)
    assert seen == [123]
