from pathlib import Path

import pytest
import torch

from harness.speech.config import TokenizerConfig
from harness.speech.features import FeatureConfig
from harness.speech.tokenizer import SpeechTokenizer
from harness.speech.units import UnitSubwords
from harness.training.checkpoint import Tokenizers, save_checkpoint
from harness.training.decoder import build_decoder
from harness.training.recipe import TextTokenizerConfig
from harness.training.text_tokenizer import train_text_tokenizer
from tests.training.toy import ARCHITECTURE


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory) -> Path:
    """A folder with a codebook of five random centroids and 20 text subwords."""
    folder = tmp_path_factory.mktemp("tokenizers")
    config = TokenizerConfig(features=FeatureConfig(n_mfcc=4, deltas=0), n_clusters=5, subwords="none", vocab_size=None)
    centroids = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    SpeechTokenizer(config, centroids, UnitSubwords(5)).save(folder / "speech")
    train_text_tokenizer(["the cat sat on the mat", "a hat"], TextTokenizerConfig(vocab_size=20), folder / "text.model")
    return folder


@pytest.fixture
def decoder(tokenizers):
    return build_decoder(ARCHITECTURE, Tokenizers.load(tokenizers).vocabulary.size, seed=3)


@pytest.fixture
def folder(tmp_path, tokenizers, decoder) -> Path:
    save_checkpoint(tmp_path / "saved", decoder, ARCHITECTURE, tokenizers, {"steps": 7})
    return tmp_path / "saved"
