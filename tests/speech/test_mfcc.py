import numpy as np
import pytest
import torch

from harness.speech.features import FeatureConfig
from harness.speech.mfcc import MfccExtractor


def mfcc(**settings) -> MfccExtractor:
    return MfccExtractor(FeatureConfig(**settings))


def test_mfcc_of_one_utterance_is_the_same_in_any_company(waves):
    together = mfcc()(waves)
    backwards = mfcc()(waves[::-1])[::-1]
    alone = [mfcc()([wave])[0] for wave in waves]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("rate", [10.0, 20.0, 25.0, 50.0, 100.0])
@pytest.mark.parametrize("samples", [400, 639, 640, 959, 961, 16_000, 16_123, 53_333])
def test_mfcc_has_a_frame_for_every_center_inside_the_audio(rate, samples):
    features = mfcc(rate_hz=rate)([torch.randn(samples) * 0.1])[0]
    centers_inside = sum((i + 0.5) / rate <= samples / 16_000 for i in range(1000))
    assert features.shape == (max(1, centers_inside), mfcc().dim)
    assert features.isfinite().all()


def test_mfcc_frame_stands_for_its_time():
    # Noise from 1.0 s on: at 25 Hz frames 0-24 are quiet, 25-49 loud (frame 25 is [1.0, 1.04)).
    wave = torch.cat([torch.randn(16_000) * 1e-3, torch.randn(16_000) * 0.3])
    energy = mfcc(deltas=0, smooth=0)([wave])[0][:, 0]
    assert (energy[:24] < 0).all()
    assert (energy[25:] > 0).all()


def test_mfcc_ignores_gain_and_survives_digital_silence(waves):
    loud, soft = mfcc()([waves[3], waves[3] * 0.1])
    assert torch.allclose(loud, soft, atol=1e-2)
    assert torch.equal(mfcc()([torch.zeros(8000)])[0], torch.zeros(13, 26))


def test_mfcc_is_normalized_per_utterance(waves):
    features = mfcc(rate_hz=100, taper=0, deltas=1, smooth=0)([waves[-1]])[0]
    assert torch.allclose(features.mean(0), torch.zeros(26), atol=0.02)
    assert torch.allclose(features.std(0), torch.ones(26), atol=0.02)


def test_mfcc_taper_weighs_coefficients_and_their_deltas_alike(waves):
    plain, tapered = mfcc(taper=0)([waves[2]])[0], mfcc(taper=0.5)([waves[2]])[0]
    assert torch.allclose(tapered[:, [1, 14]], plain[:, [1, 14]] * np.exp(-0.5), atol=1e-6)


def test_mfcc_smoothing_by_hand(waves):
    """Inner frame i is 1/4 of i - 1, 1/2 of i, 1/4 of i + 1; the ends stand for their missing neighbor."""
    raw, smooth = mfcc(smooth=0)([waves[2]])[0], mfcc()([waves[2]])[0]
    assert torch.allclose(smooth[5], (raw[4] + 2 * raw[5] + raw[6]) / 4, atol=1e-6)
    assert torch.allclose(smooth[0], (3 * raw[0] + raw[1]) / 4, atol=1e-6)
    twice = mfcc(smooth=2)([waves[2]])[0]
    assert torch.allclose(twice[5], (smooth[4] + 2 * smooth[5] + smooth[6]) / 4, atol=1e-6)


def test_stack_holds_what_mean_averages(waves):
    mean = mfcc(deltas=0, smooth=0)([waves[4]])[0]
    stacked = mfcc(deltas=0, smooth=0, pool="stack")([waves[4]])[0]
    assert stacked.shape == (len(mean), 4 * 13)
    assert torch.allclose(stacked.view(-1, 4, 13).mean(1), mean, atol=1e-5)
