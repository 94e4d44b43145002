from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from harness.errors import AudioError
from harness.segments import AudioSpan
from harness.speech.audio import audio_info, load_audio


def tone(rate: int, seconds: float = 0.5, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_format_and_channel_count_gives_the_same_tone(tmp_path, rate, suffix, channels):
    path = tmp_path / f"tone.{suffix}"
    sf.write(path, np.repeat(tone(rate)[:, None], channels, axis=1), rate)
    wave = load_audio(AudioSpan(path), 16_000)
    assert wave.dtype == torch.float32
    assert wave.shape == (8000,)
    expected = torch.from_numpy(tone(16_000))
    # The edges ring under resampling; Vorbis is lossy.
    assert (wave - expected)[800:-800].abs().max() < (0.08 if suffix == "ogg" else 0.005)
    found_rate, seconds, found_channels = audio_info(path)
    assert (found_rate, found_channels) == (rate, channels)
    assert seconds == pytest.approx(0.5)


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    sf.write(path, np.stack([np.full(800, 0.5), np.full(800, -0.25)], axis=1), 16_000, subtype="FLOAT")
    assert torch.allclose(load_audio(AudioSpan(path), 16_000), torch.full((800,), 0.125))


def test_span_is_the_slice(tmp_path):
    path = tmp_path / "a.wav"
    samples = np.linspace(-0.9, 0.9, 16_000, dtype=np.float32)
    sf.write(path, samples, 16_000, subtype="FLOAT")
    assert load_audio(AudioSpan(path, 0.25, 0.5), 16_000).numpy() == pytest.approx(samples[4000:8000])
    assert load_audio(AudioSpan(path, 0.25), 16_000).numpy() == pytest.approx(samples[4000:])
    # Ends rounded up by an aligner are the end.
    assert load_audio(AudioSpan(path, 0.25, 1.04), 16_000).numpy() == pytest.approx(samples[4000:])


@pytest.mark.parametrize(
    ("start", "end"), [(0.5, 1.2), (-0.1, 0.5), (0.6, 0.6), (0.6, 0.5), (1.0, None), (2.0, 3.0), (float("nan"), None)]
)
def test_span_outside_the_file_is_refused(tmp_path, start, end):
    path = tmp_path / "a.wav"
    sf.write(path, tone(16_000, 1.0), 16_000)
    with pytest.raises(AudioError, match=r"a\.wav.*does not lie inside an audio of 1 s"):
        load_audio(AudioSpan(path, start, end), 16_000)


def test_milliseconds_are_guessed(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, tone(16_000, 1.0), 16_000)
    with pytest.raises(AudioError, match="milliseconds"):
        load_audio(AudioSpan(path, 0.0, 900.0), 16_000)


def test_ten_milliseconds_are_too_short_and_the_message_says_so(tmp_path):
    path = tmp_path / "click.wav"
    sf.write(path, tone(16_000, 0.01), 16_000)
    with pytest.raises(AudioError, match=r"click\.wav is 10\.0 ms long.* 25 ms"):
        load_audio(AudioSpan(path), 16_000)


def test_twenty_five_milliseconds_are_enough(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, tone(16_000, 0.025), 16_000)
    assert len(load_audio(AudioSpan(path), 16_000)) == 400
    with pytest.raises(AudioError, match=r"The span of .*a\.wav.* 10\.0 ms long"):
        load_audio(AudioSpan(path, 0.0, 0.01), 16_000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    path = tmp_path / "bad.wav"
    samples = tone(16_000)
    samples[100:103] = value
    sf.write(path, samples, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"bad\.wav holds 3 NaN or infinite samples"):
        load_audio(AudioSpan(path), 16_000)


def test_integers_stored_as_floats_are_refused(tmp_path):
    path = tmp_path / "loud.wav"
    sf.write(path, tone(16_000) * 32_768, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="integers stored as floats"):
        load_audio(AudioSpan(path), 16_000)


def test_overshoot_is_clipped_to_full_scale(tmp_path):
    path = tmp_path / "hot.wav"
    sf.write(path, tone(16_000) * 2.4, 16_000, subtype="FLOAT")
    assert load_audio(AudioSpan(path), 16_000).abs().max() == 1.0


def no_samples(path: Path) -> None:
    sf.write(path, np.zeros(0, np.float32), 16_000)


def truncated(path: Path) -> None:
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000, format="FLAC")
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no audio file"),
        (lambda path: path.mkdir(), "There is no audio file"),
        (lambda path: path.write_bytes(b""), "is an empty file"),
        (lambda path: path.write_bytes(b"not audio at all" * 100), "cannot be read as audio"),
        (lambda path: path.write_text("<html>404</html>"), "cannot be read as audio"),
        (no_samples, "holds no samples"),
        (truncated, "damaged|truncated"),
    ],
)
def test_unusable_files_are_named(tmp_path, make, message):
    path = tmp_path / "odd.wav"
    make(path)
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(AudioSpan(path), 16_000)
    assert str(path) in str(caught.value)
