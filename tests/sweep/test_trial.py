import json

from harness.sweep.status import trial_results
from harness.sweep.trial import copy_state, read_result, saved_step, take_over, trial_folder


def save(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps({"step": step}))
    (folder / "model.safetensors").write_text(str(step))


def test_an_attempt_takes_over_the_latest_state_and_leaves_it_where_it_was(tmp_path):
    save(tmp_path / "state-0", 5)
    save(tmp_path / "state-1.old", 7)  # killed between the two renames of a save
    save(tmp_path / "state-1.part", 9)  # half written
    (tmp_path / "state-1.lock").touch()
    taken = take_over(tmp_path, 2)
    assert taken == tmp_path / "state-2"
    assert (saved_step(taken), (taken / "model.safetensors").read_text()) == (7, "7")
    assert saved_step(tmp_path / "state-0") == 5
    save(taken, 8)
    assert saved_step(take_over(tmp_path, 2)) == 8  # its own state comes first


def test_the_first_attempt_starts_afresh(tmp_path):
    assert saved_step(take_over(tmp_path, 0)) == 0


def test_copies_are_whole(tmp_path):
    save(tmp_path / "a", 3)
    copy_state(tmp_path / "a", tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["model.safetensors", "state.json"]


def test_finished_trials_keep_weights_and_no_state(swept):
    folder = trial_folder(swept.folder, 0)
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-0", "trial.json"]
    assert read_result(folder) == trial_results(swept)[0]
