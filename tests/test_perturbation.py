"""All that decides an answer, changed one at a time: it is asked for anew. What decides nothing is not.

A run is followed up to its first look into the row store: what it asks there, and under which key, is what would be
answered from the store. So no answer is computed here, and a case takes a fraction of a second.
"""

import json
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib.metadata import version

import numpy as np
import pytest
import soundfile
import yaml
from safetensors.torch import load_file, save_file

from harness.code import PACKAGE
from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import read_manifest, write_manifest
from harness.engine.source import source_digest
from harness.errors import CheckpointError, HarnessError
from harness.evaluation.evaluate import RunConfig, evaluate
from harness.evaluation.store import RowStore
from harness.model import load_model, read_card
from harness.registry import Registry
from harness.task import task_registry
from harness.training.train import train_model, training_card
from tests.toy import toy_card

#: Utterances of each split in the one manifest.
SIZES = {"test": 6, "train": 6, "dev": 3}
SETTINGS = {
    "cra": {},
    "pelm": {"scan": [], "seeds": 1},
    "slue_sa": {"seeds": 1, "train_on": ["text"], "epochs": 1},
}


@pytest.fixture(scope="module")
def original(harness_home, tmp_path_factory):
    """A corpus, cards of a model, a judge and a transcriber with their weights, an adapter, and tasks as a package."""
    folder = tmp_path_factory.mktemp("original")
    demo = open_corpus("demo", "test")
    splits = [split for split, size in SIZES.items() for _ in range(size)]
    chosen = [replace(u, split=split) for u, split in zip(demo.utterances, splits, strict=False)]
    for utterance in chosen:
        (folder / utterance.audio).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo.audio_path(utterance), folder / utterance.audio)
    write_manifest(folder / "mine.jsonl", chosen)
    shutil.copytree(PACKAGE.parent / "tasks", folder / "copied_tasks", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("adapter.py", "judge_adapter.py"):
        shutil.copyfile(PACKAGE.parent / "models" / "sutlm.py", folder / name)
    _train(folder)
    return folder


def _train(folder):
    training = {"train": [f"{folder}/mine.jsonl:{s}" for s in SIZES], "dev": [f"{folder}/mine.jsonl:dev"]}
    card = {**toy_card(folder, steps=1, batch_tokens=512), "adapter": "sutlm"}
    card["training"] |= training
    (folder / "toy.yaml").write_text(yaml.safe_dump(card))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(folder / "home"))
        made = training_card(read_card(str(folder / "toy.yaml")), corpus=None, settings={})
        train_model(made, output=folder / "model")
    for number, name in enumerate(("model", "judge", "transcriber")):
        if number:
            shutil.copytree(folder / "model", folder / name)
            change_weights(folder / name, by=number)
        adapter = f"{folder}/{'judge_' if name == 'judge' else ''}adapter.py:MODEL"
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"adapter": adapter, "checkpoint": name}))


@pytest.fixture
def world(original, tmp_path, monkeypatch):
    """A copy of it all at another place, to be changed; units are cached with the original."""
    monkeypatch.setenv("HARNESS_HOME", str(original / "home"))
    monkeypatch.setattr("harness.evaluation.evaluate.task_registry", _registry)
    copy = shutil.copytree(original, tmp_path / "copy", ignore=shutil.ignore_patterns("home"))
    for card in copy.glob("*.yaml"):
        card.write_text(card.read_text().replace(str(original), str(copy)))
    return copy


def _registry():
    return Registry(kind="task", package="copied_tasks", attribute="TASK", group="none")


class _FirstLookError(Exception):
    pass


class _Questions:
    """A row store that takes down what is asked first, and under which key."""

    def get(self, rows, requests):
        raise _FirstLookError({(*rows.key, item, digest) for item, digest in requests.items()})


def questions(folder, task="cra", *, device="cpu", progress=None, limit=4, split="test", **options):
    """What a run in a folder would look for in the row store."""
    sys.path.insert(0, str(folder))
    models = {"lm": f"{folder}/judge.yaml", "transcriber": f"{folder}/transcriber.yaml"}
    named = {f.name for f in fields(_registry().load(task).Options)} & set(models)
    run = {name: options.pop(name) for name in ("seed", "batch_tokens") if name in options}
    settings = {task: {**SETTINGS[task], **{name: models[name] for name in named}, **options}}
    config = RunConfig((task,), f"{folder}/mine.jsonl", split, limit=limit, settings=settings, **run)
    try:
        evaluate(load_model(f"{folder}/model.yaml", device=device), config, progress=progress, store=_Questions())
    except _FirstLookError as found:
        return found.args[0]
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("copied_tasks")]:
            del sys.modules[name]
    raise AssertionError("nothing was looked up")


@pytest.fixture(scope="module")
def before(original):
    """What is looked for before anything is changed, by task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(original / "home"))
        patch.setattr("harness.evaluation.evaluate.task_registry", _registry)
        return {task: questions(original, task) for task in SETTINGS}


# --- changes ----------------------------------------------------------------------------------------------------------


def change_heads(folder):
    """What decides the attention and no weight's shape; both files say it."""
    set_in("model/sutlm.json", "architecture", "num_heads", to=4)(folder)
    set_in("model/config.json", "num_attention_heads", to=4)(folder)


def change_weights(folder, *, by=1):
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.final_layer_norm.bias"][0] += 1e-3 * by
    save_file(weights, folder / "model.safetensors")


def change_line(index, **changes):
    def change(folder):
        lines = read_manifest(folder / "mine.jsonl")
        lines[index] = replace(lines[index], **{name: of(getattr(lines[index], name)) for name, of in changes.items()})
        write_manifest(folder / "mine.jsonl", lines)

    return change


def change_audio(split, *, keep_time=False):
    def change(folder):
        path = next(folder / u.audio for u in read_manifest(folder / "mine.jsonl") if u.split == split)
        stat = path.stat()
        samples, rate = soundfile.read(path, dtype="int16")
        samples[len(samples) // 2] += 1
        soundfile.write(path, samples, rate, subtype="PCM_16")
        assert path.stat().st_size == stat.st_size
        if keep_time:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return change


def append(name, text="# another way\n"):
    def change(folder):
        with (folder / name).open("a") as stream:
            stream.write(text)

    return change


def set_in(name, *path, to):
    """Sets a value in a JSON or YAML file."""

    def change(folder):
        content = node = yaml.safe_load((folder / name).read_text())
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = to
        text = yaml.safe_dump(content) if name.endswith("yaml") else json.dumps(content)
        (folder / name).write_text(text)

    return change


def overwrite(name):
    def change(folder):
        data = bytearray((folder / name).read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(byte ^ 0x15 for byte in data[middle : middle + 40])
        (folder / name).write_bytes(data)

    return change


def reshape(words):
    """The second word starts 10 ms later."""
    return (words[0], replace(words[1], start=words[1].start + 0.01), *words[2:])


FILES = {
    "audio": (change_audio("test"), "cra", "pelm", "slue_sa"),
    "audio under its old time": (change_audio("test", keep_time=True), "cra"),
    "audio to train on": (change_audio("train"), "slue_sa"),
    "audio to stop by": (change_audio("dev"), "slue_sa"),
    "word times": (change_line(0, words=reshape), "cra", "pelm"),
    "text": (change_line(0, text=lambda text: text + " too"), "cra", "pelm", "slue_sa"),
    "speaker": (change_line(0, speaker=lambda name: name + "2"), "cra", "pelm"),
    "label": (change_line(0, sentiment=lambda s: "Neutral" if s != "Neutral" else "Positive"), "slue_sa"),
    "label to train on": (change_line(6, sentiment=lambda s: "Neutral" if s != "Neutral" else "Positive"), "slue_sa"),
    "units": (append("mine.units.jsonl", "{}\n"), "cra", "pelm", "slue_sa"),
    "unit system": (append("units.json", "{}\n"), "cra"),
    "weights": (lambda folder: change_weights(folder / "model", by=9), "cra", "pelm", "slue_sa"),
    "heads": (change_heads, "cra"),
    "type": (set_in("model.yaml", "options", "dtype", to="bfloat16"), "cra", "pelm", "slue_sa"),
    "adapter": (append("adapter.py"), "cra", "pelm", "slue_sa"),
    "judge": (lambda folder: change_weights(folder / "judge"), "pelm"),
    "judge's adapter": (append("judge_adapter.py"), "pelm"),
    "judge's type": (set_in("judge.yaml", "options", "dtype", to="bfloat16"), "pelm"),
    "transcriber": (lambda folder: change_weights(folder / "transcriber"), "pelm", "slue_sa"),
    "task": (append("copied_tasks/pelm.py"), "pelm"),
    "task's base": (append("copied_tasks/_transfer.py"), "slue_sa"),
    "task's siblings": (append("copied_tasks/_pelm_continuations.py"), "pelm"),
}
#: The first task named shows it every time, the others beside the slow tests.
CASES = [
    pytest.param(name, task, id=f"{name}-{task}", marks=[pytest.mark.slow] if place else [])
    for name, (_, *tasks) in FILES.items()
    for place, task in enumerate(tasks)
]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_what_decides_an_answer_is_asked_for_anew(world, before, name, task):
    FILES[name][0](world)
    assert not questions(world, task) & before[task]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "text.model", "sutlm.json", "speech/centroids.safetensors", "speech/units.model",
             "speech/tokenizer.json"],
)  # fmt: skip
def test_no_file_of_a_checkpoint_changes_unnoticed(world, before, original, name):
    """Its bytes differ: it is refused, or asked for anew."""
    found = {p.relative_to(original / "model").as_posix() for p in (original / "model").rglob("*") if p.is_file()}
    assert name in found
    assert len(found) == 6 + len({"card.yaml", "config.json"})
    overwrite(f"model/{name}")(world)
    try:
        found = questions(world)
    except HarnessError:
        return
    assert not found & before["cra"]


def test_a_configuration_of_another_decoder_is_refused(world):
    """The harness builds its decoder from sutlm.json; config.json, which others read, must say the same."""
    set_in("model/config.json", "num_attention_heads", to=4)(world)
    with pytest.raises(CheckpointError, match="num_attention_heads=4"):
        load_model(f"{world}/model.yaml")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the harness whose code can be edited, for keys alone."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(PACKAGE, tmp_path_factory.mktemp("package") / "harness", ignore=ignored)


@contextmanager
def edited(package, module):
    """Within it, keys are those of the harness with a comment added to one of its modules."""
    code = (package / module).read_bytes()
    source_digest.cache_clear()
    append(module)(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.engine.source.source_digest", lambda: source_digest(package))
        yield
    (package / module).write_bytes(code)
    source_digest.cache_clear()


@pytest.mark.parametrize(
    ("module", "task"),
    [
        ("engine/scoring.py", "cra"),
        ("speech/mfcc.py", "cra"),
        ("segments.py", "pelm"),
        ("training/vocabulary.py", "slue_sa"),
    ],
)
def test_edited_code_of_the_harness_answers_anew(world, before, package, module, task):
    with edited(package, module):
        assert not questions(world, task) & before[task]


@pytest.mark.parametrize("library", ["torch", "transformers", "soundfile", "sentencepiece"])
def test_another_version_of_a_library_answers_anew(world, before, monkeypatch, library):
    monkeypatch.setattr("harness.code.version", lambda name: "0" if name == library else version(name))
    assert not questions(world) & before["cra"]


OPTIONS = [
    ("cra", "seed", 1),
    ("cra", "limit", 5),
    ("cra", "split", "train"),
    ("cra", "control", "shuffled_prompt"),
    ("cra", "num_candidates", 3),
    ("cra", "directions", ["u2u"]),
    ("cra", "min_words", 5),
    ("cra", "scores", ["pmi"]),
    ("cra", "full_scores", True),
    ("pelm", "seed", 1),
    ("pelm", "temperature", 0.5),
    ("pelm", "top_p", 0.9),
    ("pelm", "max_new_tokens", 32),
    ("pelm", "normalizer", "none"),
    ("slue_sa", "epochs", 2),
    ("slue_sa", "learning_rates", [1e-4]),
    ("slue_sa", "control", "shuffled_labels"),
    ("slue_sa", "transcriber", None),
]


OPTION_CASES = [
    pytest.param(*case, id=".".join(case[:2]), marks=[] if case[0] == "cra" else [pytest.mark.slow]) for case in OPTIONS
]


@pytest.mark.parametrize(("task", "option", "value"), OPTION_CASES)
def test_other_options_are_asked_for_anew(world, before, task, option, value):
    assert not questions(world, task, **{option: value}) & before[task]


def test_options_that_decide_nothing_are_few():
    """Every other field of a task's options is part of the protocol, hence of the key."""
    tasks = {name: task_registry().load(name) for name in task_registry().sources()}
    silent = {
        f"{name}.{f.name}"
        for name, task in tasks.items()
        for f in fields(task.Options)
        if not f.metadata.get("changes_numbers", True)
    }
    # Names of models, whose fingerprints are in the protocol; an allowance; audio to listen to.
    models = {"pelm.lm", "pelm.transcriber", "slue_ner.transcriber", "slue_sa.transcriber"}
    assert silent == {"pelm.audio", "pelm.force", *models}


# --- what decides nothing ---------------------------------------------------------------------------------------------


def touch(folder):
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))


def rename_judge(folder):
    """The same model by another card at another place."""
    card = yaml.safe_load((folder / "judge.yaml").read_text())
    (folder / "judge").rename(folder / "moved")
    (folder / "judge.yaml").write_text(yaml.safe_dump({**card, "checkpoint": "moved"}))


NOTHING = {
    "another place": lambda folder: None,
    "times of files": touch,
    "a file beside": append("notes.txt"),
    "description": set_in("model.yaml", "description", to="another"),
    "recipe": set_in("model.yaml", "training", "steps", to=9),
    "record of training": set_in("model/sutlm.json", "record", "losses", to={}),
    "place of the judge": rename_judge,
    "another task's code": append("copied_tasks/slue_ner.py"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTHING)
def test_what_decides_nothing_is_found_again(world, before, name):
    NOTHING[name](world)
    assert questions(world) == before["cra"]


@pytest.mark.parametrize("task", SETTINGS)
def test_all_that_decides_nothing_together_is_found_again(world, before, task):
    for change in NOTHING.values():
        change(world)
    assert questions(world, task, batch_tokens=64, device="cpu:0", progress=lambda *step: None) == before[task]


@pytest.mark.slow
@pytest.mark.parametrize(
    "run", [{"batch_tokens": 64}, {"device": "cpu:0"}, {"progress": lambda *step: None}], ids=" ".join
)
def test_how_a_run_is_made_decides_nothing(world, before, run):
    assert questions(world, **run) == before["cra"]


def test_silent_options_decide_nothing(world, before):
    assert questions(world, "pelm", audio=0, force=True) == before["pelm"]


@pytest.mark.parametrize("module", ["report/html.py", "cli/run.py", "tracking/sender.py", "training/loop.py"])
def test_code_that_computes_no_answer_decides_nothing(world, before, package, module):
    with edited(package, module):
        assert questions(world) == before["cra"]


# --- and the answers themselves ---------------------------------------------------------------------------------------


def test_replaced_audio_gives_the_numbers_of_the_new_audio(world, tmp_path):
    """Every recording is turned around under its unchanged manifest line: the same length, other speech."""
    config = RunConfig(("cra",), f"{world}/mine.jsonl", "test", settings={"cra": {"directions": ["u2u"]}})
    sys.path.insert(0, str(world))
    model = f"{world}/model.yaml"
    with RowStore(tmp_path / "rows.sqlite3") as store:
        old = evaluate(load_model(model), config, store=store)
        for path in world.rglob("*.wav"):
            samples, rate = soundfile.read(path, dtype="int16")
            soundfile.write(path, np.ascontiguousarray(samples[::-1]), rate, subtype="PCM_16")
        new = evaluate(load_model(model), config, store=store)
    sys.path.remove(str(world))
    assert new.tasks["cra"].items == evaluate(load_model(model), config).tasks["cra"].items
    assert [i.scores for i in new.tasks["cra"].items] != [i.scores for i in old.tasks["cra"].items]
    assert new.run_id != old.run_id
    assert new.tasks["cra"].signature != old.tasks["cra"].signature
    assert str(tmp_path) not in new.tasks["cra"].signature
