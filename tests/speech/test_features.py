import pytest

from harness.config import build
from harness.errors import ConfigError
from harness.speech.features import FeatureConfig, extractor_digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 6}, "mfcc has neither"),
        ({"rate_hz": 30}, "must divide 100"),
        ({"rate_hz": -25}, "must divide 100"),
        ({"sample_rate": 22_050 + 7}, "multiple of 100"),
        ({"n_mfcc": 41}, "n_mfcc <= n_mels"),
        ({"taper": -1}, "'taper' must be 0 or more"),
        ({"kind": "hubert-base"}, r"hubert-base needs 'layer' in 1\.\.12; found None"),
        ({"kind": "wavlm-large", "layer": 25}, r"needs 'layer' in 1\.\.24; found 25"),
        ({"kind": "hubert-base", "layer": 6, "rate_hz": 25}, "50 frames per second"),
        ({"kind": "hubert-base", "layer": 6, "sample_rate": 8000}, "16,000 Hz"),
        ({"kind": "hubert"}, "hubert"),
        ({"n_mfc": 13}, "unknown key 'n_mfc'.*n_mfcc"),
    ],
)
def test_configurations_that_make_no_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(FeatureConfig, settings, where="card")


def test_digest_holds_what_changes_numbers_and_nothing_else(tmp_path):
    hubert = FeatureConfig(kind="hubert-base", layer=6)
    base = extractor_digest(hubert, "w")
    assert base == extractor_digest(FeatureConfig(kind="hubert-base", layer=6, weights=tmp_path), "w")
    assert base != extractor_digest(hubert, "other weights")
    assert base != extractor_digest(FeatureConfig(kind="hubert-base", layer=9), "w")
    assert base != extractor_digest(FeatureConfig(kind="wavlm-base", layer=6), "w")
    changes: list[dict[str, object]] = [
        {},
        {"rate_hz": 50},
        {"n_mfcc": 12},
        {"n_mels": 80},
        {"deltas": 0},
        {"taper": 0},
    ]
    changes += [{"pool": "stack"}, {"smooth": 0}, {"sample_rate": 8000}]
    configs = [build(FeatureConfig, change, where="test") for change in changes]
    assert len({extractor_digest(config, None) for config in configs}) == len(changes)
    assert extractor_digest(FeatureConfig(rate_hz=25), None) == extractor_digest(FeatureConfig(), None)
