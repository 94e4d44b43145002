"""A run that was stopped, killed or cut short while saving goes on to the same losses and weights."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError, StaleWarning
from harness.training.loop import Trainer
from harness.training.recipe import Mixture
from tests.training.toy import ARCHITECTURE, DROPPING, config, finished, formatter, trainer, utterances, weights

ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.toy import DROPPING, trainer

def stop(step):
    if step.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

trainer(Path(sys.argv[1]), DROPPING).run(stop)
"""


def test_a_killed_run_continues_to_the_same_losses_and_weights(tmp_path):
    """Killed after step 5, saved at step 3: the steps 4 and 5 are taken again."""
    state = tmp_path / "state"
    killed = subprocess.run([sys.executable, "-c", KILLED, state], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = trainer(state, DROPPING)
    assert resumed.step == 3
    resumed.run()
    whole = finished(None, DROPPING)
    assert resumed.history == whole.history
    assert weights(resumed) == weights(whole)
    assert resumed.tokens == whole.tokens
    assert resumed.stream.state() == whole.stream.state()


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"dtype": "bfloat16"}, {"ratio_unit": "samples"}])
def test_resumed_runs_are_exact_under_every_option(tmp_path, settings):
    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "state", **settings).run(stop)
    resumed, whole = finished(tmp_path / "state", **settings), finished(**settings)
    assert resumed.history == whole.history
    assert weights(resumed) == weights(whole)


def test_a_finished_run_takes_no_further_step(tmp_path):
    first = finished(tmp_path / "state")
    again = trainer(tmp_path / "state")
    again.run(lambda step: pytest.fail(f"took step {step.step}"))
    assert weights(first) == weights(again)
    assert not again.model.training


@pytest.mark.parametrize("stop_at", range(10))
def test_a_save_cut_short_anywhere_loses_at_most_itself(tmp_path, monkeypatch, stop_at):
    """The save after step 6 dies before its first, second, … file operation; the one after step 3 stands."""
    run = trainer(tmp_path / "state")
    calls = []

    def dying(operation):
        def call(*arguments, **options):
            if run.step == 6:
                calls.append(operation)
                if len(calls) > stop_at:
                    raise KeyboardInterrupt
            return operation(*arguments, **options)

        return call

    for module, name in [(shutil, "rmtree"), (Path, "mkdir"), (Path, "replace"), (Path, "write_text")]:
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    monkeypatch.setattr("harness.training.state.save_file", dying(sys.modules["harness.training.state"].save_file))
    try:
        run.run()
    except KeyboardInterrupt:
        pass
    else:
        assert stop_at >= len(calls)
    monkeypatch.undo()
    resumed = trainer(tmp_path / "state")
    assert resumed.step in (3, 6)
    resumed.run()
    whole = finished()
    assert resumed.history == whole.history
    assert weights(resumed) == weights(whole)


def test_a_half_written_save_does_not_count(tmp_path):
    finished(tmp_path / "state", steps=3)
    part = tmp_path / "state.12345.part"
    shutil.copytree(tmp_path / "state", part)
    (part / "state.json").write_text("{")
    assert trainer(tmp_path / "state", steps=3).step == 3
    shutil.rmtree(tmp_path / "state")
    assert trainer(tmp_path / "state", steps=3).step == 0


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("kind", ["overwritten", "truncated", "removed"])
def test_a_damaged_state_is_refused(tmp_path, name, kind):
    """Never other weights: the bytes in the middle of a safetensors file are values that load as well as any."""
    finished(tmp_path / "state", steps=3)
    file = tmp_path / "state" / name
    data, middle = file.read_bytes(), file.stat().st_size // 2
    cases = {
        "overwritten": data[:middle] + b"\xa5" * 300 + data[middle + 300 :],
        "truncated": data[:middle],
    }
    file.unlink()
    if kind in cases:
        file.write_bytes(cases[kind])
    with pytest.raises(HarnessError, match=r"training state .*state is damaged \(.*Restore the folder .* or remove it"):
        trainer(tmp_path / "state", steps=3)


def test_what_other_code_saved_is_used_with_a_warning(tmp_path, monkeypatch):
    finished(tmp_path / "state", steps=3)
    assert trainer(tmp_path / "state", steps=3).step == 3
    monkeypatch.setattr("harness.code.version", lambda package: "0")
    with pytest.warns(StaleWarning, match=r"state .*state was saved by other code, or other versions of torch"):
        assert trainer(tmp_path / "state", steps=3).step == 3


def test_an_empty_folder_is_no_state(tmp_path):
    (tmp_path / "state").mkdir()
    assert trainer(tmp_path / "state", steps=3).step == 0


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 7}, {"mixture": Mixture(speech=2)}, {"learning_rate": 0.1}])
def test_a_state_folder_of_another_configuration_is_refused(tmp_path, change):
    finished(tmp_path / "state")
    with pytest.raises(HarnessError, match="training run of another configuration or data; choose another folder"):
        trainer(tmp_path / "state", **change)


def test_a_finished_run_is_continued_when_only_the_type_of_its_export_changes(tmp_path):
    finished(tmp_path / "state")
    assert trainer(tmp_path / "state", export_dtype="float16").step == 6


def test_a_state_folder_of_another_model_or_other_data_is_refused(tmp_path):
    finished(tmp_path / "state")
    arguments = (config(), formatter(), utterances(12), utterances(5, seed=1))
    for architecture, identity in [(DROPPING, ""), (ARCHITECTURE, "other data")]:
        with pytest.raises(HarnessError, match="another configuration or data"):
            Trainer(architecture, *arguments, state=tmp_path / "state", identity=identity)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    run, other = (trainer(tmp_path / "state", steps=1) for _ in range(2))

    def intrude(step):
        with pytest.raises(HarnessError, match=r"Another process is training in .*state; wait for it to end"):
            other.run()

    run.run(intrude)
    assert other.step == 0
    other.run()
    assert weights(run) == weights(other)


def test_a_run_without_a_state_folder_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished()
    assert not list(tmp_path.iterdir())
