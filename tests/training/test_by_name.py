from typing import Any

import pytest

from harness.errors import ConfigError, UnknownNameError
from harness.training import by_name
from harness.training.by_name import train


def test_an_unknown_card_is_refused():
    with pytest.raises(UnknownNameError, match="sutlm-tiny"):
        train("sutlm-tinny")


def test_settings_are_checked_before_anything_is_trained():
    with pytest.raises(ConfigError, match="trainning"):
        train("sutlm-tiny", settings={"trainning": {"steps": 1}})


def test_card_corpus_and_settings_reach_the_training(monkeypatch, tmp_path):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(by_name, "train_model", lambda card, **rest: asked.update(rest, card=card) or "trained")
    found = train("sutlm-tiny", corpus="ljspeech", settings={"training": {"steps": 7}}, output=tmp_path, device="cuda")
    assert found == "trained"
    assert asked["card"].name == "sutlm-tiny-ljspeech"
    assert asked["card"].training["steps"] == 7
    assert asked["card"].training["train"] == ["ljspeech:train"]
    assert (asked["output"], asked["device"]) == (tmp_path, "cuda")
