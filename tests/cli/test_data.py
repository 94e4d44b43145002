"""`harness data` and `harness tokenizer`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.cli.main import main
from harness.corpora.manifest import Utterance, write_manifest

SPEECH = Path(__file__).resolve().parents[2] / "models" / "sutlm-tiny" / "speech"


@pytest.fixture
def tones(tmp_path):
    """Two audio files of half a second."""
    for name, pitch in (("low", 200), ("high", 900)):
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(8_000) / 16_000)
        soundfile.write(tmp_path / f"{name}.wav", wave, 16_000)
    return [tmp_path / "low.wav", tmp_path / "high.wav"]


def printed(capsys, *words):
    assert main([*map(str, words)]) == 0
    return capsys.readouterr()


def test_audio_becomes_a_json_line_for_each_file(tones, capsys, harness_home):
    captured = printed(capsys, "tokenizer", "encode", SPEECH, *tones, "--no-cache")
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [row["audio"] for row in rows] == [str(tone) for tone in tones]
    for row in rows:
        assert set(row) == {"audio", "system", "rate_hz", "units", "durations", "subwords"}
        assert len(row["units"]) == len(row["durations"])
    assert captured.err.startswith("2 files, 0 from the cache, ")
    again = printed(capsys, "tokenizer", "encode", SPEECH, *tones, "--no-cache", "--quiet")
    assert (again.out, again.err) == (captured.out, "")


def test_a_tokenizer_is_shown(capsys):
    found = json.loads(printed(capsys, "tokenizer", "show", SPEECH, "--json").out)
    assert found["system"]


def test_a_manifest_is_checked(tones, tmp_path, capsys):
    utterances = [
        Utterance(id=t.stem, audio=t.name, sample_rate=16_000, seconds=0.5, text="a tone", speaker="s", split="test")
        for t in tones
    ]
    write_manifest(tmp_path / "test.jsonl", utterances)
    assert "utterances: 2" in printed(capsys, "data", "check", tmp_path / "test.jsonl").out
    tones[0].unlink()
    assert main(["data", "check", str(tmp_path / "test.jsonl")]) == 2
    assert "low.wav" in capsys.readouterr().err


def test_audio_that_changed_is_listed(tones, tmp_path, capsys, empty_home, monkeypatch):
    monkeypatch.setattr("harness.corpora.content._UNSETTLED_NS", 0)
    utterances = [Utterance(t.stem, t.name, 16_000, 0.5, "a tone", "s", "test") for t in tones]
    write_manifest(tmp_path / "test.jsonl", utterances)
    command = ["data", "check", tmp_path / "test.jsonl", "--content", "--json"]
    before = json.loads(printed(capsys, *command).out)
    assert before["changed"] == []
    with tones[1].open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\1\2\3\4")
    found = json.loads(printed(capsys, *command).out)
    assert found["changed"] == ["high.wav"]
    assert found["digests"] != before["digests"]
    assert "changed:" not in printed(capsys, *command[:3]).out


def test_damaged_units_are_a_warning(tones, capsys, empty_home):
    command = ["tokenizer", "encode", SPEECH, *tones]
    before = printed(capsys, *command)
    (cache,) = empty_home.glob("cache/units/*/*.sqlite3")
    cache.write_bytes(b"not a database" * 500)
    after = printed(capsys, *command)
    assert after.out == before.out
    assert after.err.startswith(f"harness: warning: The unit cache {cache} is damaged (file is not a database); ")
    assert after.err.count("warning") == 1


def test_settings_of_a_tokenizer_are_checked_first(tmp_path, capsys):
    words = ["tokenizer", "train", "--output", str(tmp_path / "tok"), "--set", "n_clusterss=5"]
    assert main(words) == 2
    assert capsys.readouterr().err == "harness: --set: unknown key 'n_clusterss'. Did you mean 'n_clusters'?\n"
    assert not (tmp_path / "tok").exists()
