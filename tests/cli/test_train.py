"""`harness train`: what reaches the training, and that tracking never costs one."""

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import TrainingError
from harness.tracking import training as tracking
from harness.tracking.storage import TrackingError
from harness.training.loop import TrainingStep
from harness.training.train import Trained

STEP = TrainingStep(
    step=3,
    steps=4,
    loss=1.5,
    learning_rate=0.1,
    grad_norm=2.0,
    tokens=9,
    tokens_per_s=5.0,
    dev={"dev.loss": 1.0},
    realized={},
)


class Logger:
    """Keeps what it is told, or fails at every turn."""

    def __init__(self, *, broken=False):
        self.broken, self.logged, self.closed = broken, [], []

    def log(self, step, metrics):
        self.logged.append((step, metrics))

    def close(self, status):
        self.closed.append(status)
        if self.broken:
            raise TrackingError("the server is away")


@pytest.fixture
def trainings(monkeypatch, tmp_path):
    """What was to be trained: one step is reported, and nothing trained."""
    asked = []

    def train_model(card, *, on_step, **rest):
        on_step(STEP)
        asked.append((card, rest))
        return Trained(tmp_path / "made", "a" * 64, 4, 9, {}, {}, 1234, 0)

    monkeypatch.setattr("harness.training.train.train_model", train_model)
    return asked


@pytest.fixture
def logger(monkeypatch):
    """The logger of the training."""
    made = Logger()
    monkeypatch.setattr(tracking, "card_logger", lambda _, card: made)
    return made


def test_options_reach_the_training(trainings, logger, capsys, tmp_path):
    words = ["--model", "sutlm-tiny", "--steps", "7", "--set", "training.seed=5", "--set", "training.steps=2"]
    assert main(["train", *words, "--output", "out", "--device", "cuda", "--no-tracking", "--json"]) == 0
    ((card, rest),) = trainings
    assert (card.training["steps"], card.training["seed"], card.training["learning_rate"]) == (7, 5, 2e-3)
    assert (rest["output"], rest["device"]) == (Path("out"), "cuda")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["checkpoint"] == str(tmp_path / "made")
    assert "1,234 documents were longer than a row" in captured.err
    assert f"evaluate it with: harness run --model {tmp_path / 'made'} --tasks cra" in captured.err
    assert logger.closed == []


def test_steps_are_tracked_and_the_run_is_closed(trainings, logger):
    assert main(["train", "--model", "sutlm-tiny", "--quiet"]) == 0
    numbers = {"loss": 1.5, "learning_rate": 0.1, "grad_norm": 2.0, "tokens": 9, "tokens_per_s": 5.0, "dev.loss": 1.0}
    assert (logger.logged, logger.closed) == ([(3, numbers)], ["FINISHED"])


def test_a_failed_training_closes_its_run_as_failed(monkeypatch, logger, capsys):
    def diverges(*_, **__):
        raise TrainingError("The loss is not finite.")

    monkeypatch.setattr("harness.training.train.train_model", diverges)
    assert main(["train", "--model", "sutlm-tiny"]) == 1
    assert (logger.closed, capsys.readouterr().err) == (["FAILED"], "harness: The loss is not finite.\n")


def test_failures_of_tracking_are_warnings(trainings, monkeypatch, logger, capsys):
    logger.broken = True
    assert main(["train", "--model", "sutlm-tiny", "--quiet"]) == 0
    assert capsys.readouterr().err == "harness: warning: the server is away\n"

    def unreachable(*_):
        raise TrackingError("no server")

    monkeypatch.setattr(tracking, "card_logger", unreachable)
    assert main(["train", "--model", "sutlm-tiny", "--quiet"]) == 0
    assert capsys.readouterr().err == "harness: warning: no server\n"
