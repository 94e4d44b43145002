import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from harness.errors import AudioError, CheckpointError, SegmentError, TokenizerError, UnitSystemError
from harness.segments import AudioSpan, UnitSpan
from harness.speech.audio import load_audio
from harness.speech.config import TokenizerConfig
from harness.speech.features import FeatureConfig
from harness.speech.tokenizer import EncodeStats, SpeechTokenizer
from harness.speech.units import UnitSubwords

CONFIG = TokenizerConfig(n_clusters=12, subwords="bpe", vocab_size=24, kmeans_n_init=1)


@pytest.fixture(autouse=True)
def own_home(empty_home):
    """No test sees another's cache."""


def stats_of(tokenizer: SpeechTokenizer, spans: list[AudioSpan], **settings) -> EncodeStats:
    seen: list[EncodeStats] = []
    tokenizer.encode(spans, report=seen.append, **settings)
    return seen[0]


def test_units_are_deduplicated_frames_of_this_system(trained, audio_files, waves):
    spans = trained.encode([AudioSpan(path) for path in audio_files])
    for span, wave in zip(spans, waves, strict=True):
        assert span.system == trained.system
        assert span.rate_hz == trained.rate_hz == 25
        assert abs(span.seconds - len(wave) / 16_000) <= 0.5 / 25 + 1e-9
        assert all(a != b for a, b in zip(span.units, span.units[1:], strict=False))
        assert all(0 <= unit < trained.n_clusters == 12 for unit in span.units)
    assert len({unit for span in spans for unit in span.units}) > 6


def test_subwords_there_and_back(trained, audio_files):
    for span in trained.encode([AudioSpan(path) for path in audio_files]):
        ids = trained.subwords(span)
        assert trained.units_of(ids) == span.units
        assert len(ids) < len(span.units)
        assert sum(trained.piece_lengths[i] for i in ids) == len(span.units)
        assert max(ids) < trained.vocab_size == 24


@pytest.mark.parametrize("batch_seconds", [0.1, 3.0, 1000.0])
def test_batches_order_and_cache_change_nothing(trained, audio_files, batch_seconds):
    spans = [AudioSpan(path) for path in audio_files]
    alone = [trained.encode([span], cache=False)[0] for span in spans]
    assert trained.encode(spans[::-1], cache=False, batch_seconds=batch_seconds)[::-1] == alone
    assert trained.encode(spans, batch_seconds=batch_seconds) == alone
    assert trained.encode(spans, batch_seconds=batch_seconds) == alone


def test_spans_are_cut_from_the_units_of_the_whole_file(trained, audio_files):
    path = audio_files[-1]
    whole, part, rest = trained.encode([AudioSpan(path), AudioSpan(path, 1.0, 2.0), AudioSpan(path, 2.0)])
    assert part == whole.cut(1.0, 2.0)
    assert part.num_frames == 25
    assert rest == whole.cut(2.0, None)
    # Encoded on its own, the same second hears no context and is normalized by itself.
    assert part != trained.encode_waves([load_audio(AudioSpan(path, 1.0, 2.0), 16_000)])[0]


def test_each_file_is_computed_once(trained, audio_files, monkeypatch):
    loaded: list[Path] = []

    def counting(span: AudioSpan, sample_rate: int) -> torch.Tensor:
        loaded.append(span.path)
        return load_audio(span, sample_rate)

    monkeypatch.setattr("harness.speech.reading.load_audio", counting)
    spans = [AudioSpan(path, start, start + 0.3) for start in (0.0, 0.2) for path in audio_files]
    trained.encode(spans)
    assert sorted(loaded) == sorted(audio_files)
    trained.encode(spans)
    assert len(loaded) == len(audio_files)


def test_cache_is_used_and_reported(trained, audio_files):
    spans = [AudioSpan(path) for path in audio_files]
    first, second = stats_of(trained, spans), stats_of(trained, spans)
    assert (first.num_files, first.num_cached) == (12, 0)
    assert first.audio_s == pytest.approx(sum(0.6 + 0.31 * i for i in range(12)), abs=0.01)
    assert first.times_real_time > 1
    assert (second.num_files, second.num_cached, second.audio_s) == (12, 12, 0)
    assert stats_of(trained, spans, cache=False).num_cached == 0


def test_cache_knows_a_file_by_its_bytes_not_by_its_name(trained, audio_files):
    a, b = audio_files[5], audio_files[6]
    before, other = trained.encode([AudioSpan(a), AudioSpan(b)])
    moved = a.with_name("moved.flac")
    shutil.move(a, moved)
    assert stats_of(trained, [AudioSpan(moved)]).num_cached == 1
    shutil.copy(b, a)
    assert trained.encode([AudioSpan(a)]) == [other] != [before]
    assert stats_of(trained, [AudioSpan(a), AudioSpan(b)], cache=False).num_cached == 1  # copies are computed once


def test_cache_of_another_codebook_is_not_read(trained, audio_files, waves):
    spans = [AudioSpan(path) for path in audio_files]
    trained.encode(spans)
    other = SpeechTokenizer.train(waves, CONFIG, seed=1)
    assert other.system != trained.system
    assert stats_of(other, spans).num_cached == 0
    assert {span.system for span in other.encode(spans)} == {other.system}


def test_interrupted_encoding_continues(trained, audio_files):
    broken = audio_files[0]
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    with pytest.raises(AudioError, match=r"0\.flac"):
        trained.encode([AudioSpan(path) for path in audio_files], batch_seconds=1)
    broken.write_bytes(good)
    assert stats_of(trained, [AudioSpan(path) for path in audio_files]).num_cached > 0


def test_progress_counts_to_the_end(trained, audio_files):
    calls: list[tuple[int, int]] = []
    trained.encode(
        [AudioSpan(p) for p in audio_files], batch_seconds=3, progress=lambda _, n, of: calls.append((n, of))
    )
    assert [n for n, _ in calls] == sorted({n for n, _ in calls})
    assert calls[-1] == (12, 12)


def test_spans_outside_and_between_frames_are_refused(trained, audio_files):
    with pytest.raises(AudioError, match="does not lie inside"):
        trained.encode([AudioSpan(audio_files[0], 0.2, 5.0)])
    with pytest.raises(SegmentError, match=r"0\.041-0\.043 s holds the center of no frame"):
        trained.encode([AudioSpan(audio_files[0], 0.041, 0.043)])
    with pytest.raises(AudioError, match="There is no audio file"):
        trained.encode([AudioSpan(Path("absent.wav"))])
    assert trained.encode([]) == []


def test_units_of_another_system_are_refused(trained):
    with pytest.raises(UnitSystemError, match=f"of the system other, this tokenizer's is {trained.system}"):
        trained.subwords(UnitSpan((1, 2), (1, 1), 25.0, "other"))


def test_training_depends_on_the_seed_alone(trained, waves, audio_files):
    again = SpeechTokenizer.train(waves, CONFIG, seed=0)
    assert (again.system, again.digest) == (trained.system, trained.digest)
    files = [AudioSpan(path) for path in audio_files]
    one, two = SpeechTokenizer.train(files, CONFIG, seed=5), SpeechTokenizer.train(files, CONFIG, seed=5)
    assert one.digest == two.digest
    assert SpeechTokenizer.train(files, CONFIG, seed=6).system != one.system


def test_the_same_tokenizer_in_another_process(trained, audio_files, tmp_path):
    trained.save(tmp_path / "tok")
    code = (
        "import sys; from pathlib import Path; from harness.segments import AudioSpan;"
        "from harness.speech.tokenizer import SpeechTokenizer; t = SpeechTokenizer.load(Path(sys.argv[1]));"
        "print(t.system, t.digest, t.subwords(t.encode([AudioSpan(Path(sys.argv[2]))], cache=False)[0]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tok"), str(audio_files[3])]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    ids = trained.subwords(trained.encode([AudioSpan(audio_files[3])], cache=False)[0])
    assert out == f"{trained.system} {trained.digest} {ids}"


def test_without_subwords(waves, tmp_path):
    bare = SpeechTokenizer.train(waves, TokenizerConfig(n_clusters=12, subwords="none", kmeans_n_init=1), seed=0)
    span = bare.encode_waves(waves[:1])[0]
    assert bare.subwords(span) == list(span.units)
    assert bare.vocab_size == 12
    bare.save(tmp_path)
    assert not (tmp_path / "units.model").exists()
    assert SpeechTokenizer.load(tmp_path).digest == bare.digest


def test_subwords_change_the_digest_but_not_the_system(trained, waves):
    bare = SpeechTokenizer.train(waves, TokenizerConfig(n_clusters=12, subwords="none", kmeans_n_init=1), seed=0)
    assert bare.system == trained.system
    assert bare.digest != trained.digest


def test_other_weights_than_in_training_are_refused(tmp_path):
    path = tmp_path / "hubert.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    config = TokenizerConfig(FeatureConfig(kind="hubert-base", layer=6), n_clusters=3, subwords="none")
    tokenizer = SpeechTokenizer(config, torch.randn(3, 768), UnitSubwords(3), weights_sha256="0" * 64)
    tokenizer.save(tmp_path / "tok")
    # Subwords need no weights; audio does.
    loaded = SpeechTokenizer.load(tmp_path / "tok", weights=path)
    assert loaded.system == tokenizer.system
    assert loaded.subwords(UnitSpan((1, 2), (1, 1), 50.0, loaded.system)) == [1, 2]
    with pytest.raises(CheckpointError, match="hubert"):
        loaded.encode_waves([torch.zeros(16_000)])


def test_no_audio_is_refused():
    with pytest.raises(TokenizerError, match="on no audio"):
        SpeechTokenizer.train([], CONFIG, seed=0)


def test_real_speech_is_many_times_real_time_and_gives_stable_units(shared_data):
    paths = sorted((shared_data / "ljspeech" / "audio").glob("*.wav"))[:10]
    spans = [AudioSpan(path) for path in paths]
    tokenizer = SpeechTokenizer.train(spans, TokenizerConfig(n_clusters=50, subwords="none", kmeans_n_init=1), seed=0)
    units = tokenizer.encode(spans)
    rate = sum(len(span.units) for span in units) / sum(span.seconds for span in units)
    # English has 10 to 15 phones per second; 25 would be noise.
    assert 8 < rate < 20
    # Far under the 400 times measured on an idle core: the machine may be busy.
    assert stats_of(tokenizer, spans, cache=False).times_real_time > 30
    assert np.unique(np.concatenate([span.units for span in units])).size > 45
