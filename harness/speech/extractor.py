"""Loads the extractor that a configuration describes."""

from __future__ import annotations

from harness.speech.features import Extractor, FeatureConfig
from harness.speech.mfcc import MfccExtractor
from harness.speech.self_supervised import load_ssl


def load_extractor(config: FeatureConfig, *, device: str = "cpu") -> Extractor:
    """The extractor a configuration describes; `mfcc` runs on the CPU whatever the device.

    Raises:
        CheckpointError: if the weights are absent, damaged or of another architecture.
    """
    return MfccExtractor(config) if config.kind == "mfcc" else load_ssl(config, device=device)
