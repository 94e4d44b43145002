"""Results do not tell how often a run was stopped, what was known before, or how many processes shared it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.config import plain
from harness.engine.distributed import Processes
from harness.evaluation.evaluate import RunConfig, evaluate
from harness.evaluation.resume import (
    _share,
    answer_all,
    request_digests,
    total_work,
)
from harness.evaluation.store import RowSet, RowStore
from harness.model import ModelCard
from harness.results import summary
from harness.segments import AudioSpan, Speech, Text
from harness.task import Ranking, RankScore, Request, Unscorable
from tests.tiny_decoder import TinyDecoder

#: Small blocks, so that a few prompts make many.
CONFIG = RunConfig(("cra",), limit=6, batch_tokens=40, settings={"cra": {"directions": ["u2t", "t2t"]}})
KEY = RowSet("weights", "protocol", "utterances", "engine", model="tiny", task="toy", corpus="none")


@pytest.fixture
def store(harness_home, tmp_path):
    with RowStore(tmp_path / "rows.sqlite3") as opened:
        yield opened


def record(result):
    """All that results on disk hold of a run."""
    return json.dumps([summary(result), {n: plain(t.items) for n, t in result.tasks.items()}])


class Stop:
    """Progress that ends the run once so many are done, and remembers what it was told."""

    def __init__(self, at=None):
        self.at, self.told = at, []

    def __call__(self, what, done, total):
        self.told.append((done, total))
        if done == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def uninterrupted(harness_home):
    return record(evaluate(model(), CONFIG))


def model(**options):
    made = TinyDecoder(**options)
    made.card = ModelCard(name="tiny", adapter="tests", checkpoint="none")
    return made


# --- one process ------------------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_and_ends_with_the_same_record(store, uninterrupted):
    points = Stop()
    evaluate(model(), CONFIG, progress=points)
    assert len(points.told) > 6
    for at, total in points.told[1::4]:
        store.clear()
        with pytest.raises(KeyboardInterrupt):
            evaluate(model(), CONFIG, progress=Stop(at), store=store)
        store.commit()
        again = Stop()
        assert record(evaluate(model(), CONFIG, progress=again, store=store)) == uninterrupted
        assert again.told[0] == (at, total)
        assert again.told[-1] == (total, total)


def test_stopping_again_and_again_ends_all_the_same(store, uninterrupted):
    points = Stop()
    evaluate(model(), CONFIG, progress=points)
    for at, _ in [*points.told[::4], points.told[-1]]:
        with pytest.raises(KeyboardInterrupt):
            evaluate(model(), CONFIG, progress=Stop(at), store=store)
    used = model()
    assert record(evaluate(used, CONFIG, store=store)) == uninterrupted
    assert used.calls <= 4  # whether the decoder is one that the engine knows


def test_losing_any_part_of_the_store_changes_nothing(store, uninterrupted):
    evaluate(model(), CONFIG, store=store)
    store.commit()
    items = [item for (item,) in store._connection.execute("SELECT item FROM rows")]
    for start in range(2):
        lost = items[start::2]
        store._connection.execute(f"DELETE FROM rows WHERE item IN ({','.join('?' * len(lost))})", lost)
        assert record(evaluate(model(), CONFIG, store=store)) == uninterrupted


def test_batch_size_is_no_part_of_the_key(store, uninterrupted):
    evaluate(model(), CONFIG, store=store)
    other = replace(CONFIG, batch_tokens=77)
    points = Stop()
    assert record(evaluate(model(), other, store=store, progress=points)) == uninterrupted
    assert len(points.told) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"settings": {"cra": {"directions": ["u2t", "t2t"], "control": "shuffled_prompt"}}},
    ],
    ids=str,
)
def test_another_protocol_shares_no_row(store, change):
    other = replace(CONFIG, **change)
    evaluate(model(), CONFIG, store=store)
    assert record(evaluate(model(), other, store=store)) == record(evaluate(model(), other))


def test_other_weights_share_no_row(store):
    evaluate(model(), CONFIG, store=store)
    assert record(evaluate(model(seed=1), CONFIG, store=store)) == record(evaluate(model(seed=1), CONFIG))


# --- requests ---------------------------------------------------------------------------------------------------------

POOL = tuple(Text(words) for words in ("a b", "c", "d e f"))
PRIOR = Request("prior", (), "text", "text", POOL, (0, 1, 2))
SCORES = (RankScore(), RankScore(prior="prior"))
RANKED = Request("r", (Text("p"),), "text", "text", POOL, (0, 2), Ranking(1, SCORES))


@pytest.mark.parametrize(
    "other",
    [
        replace(RANKED, prompt=(Text("q"),)),
        replace(RANKED, target="speech"),
        replace(RANKED, pool=POOL[::-1]),
        replace(RANKED, chosen=(2, 0)),
        replace(RANKED, ranking=None),
        replace(RANKED, ranking=Ranking(0, SCORES)),
        replace(RANKED, ranking=Ranking(1, (RankScore(), RankScore(divisor="tokens", prior="prior")))),
        replace(RANKED, ranking=Ranking(1, (RankScore(), RankScore(divisor=(1.0, 2.0, 3.0), prior="prior")))),
        replace(RANKED, ranking=Ranking(1, (RankScore(), RankScore(prior="prior", tolerance=0.1)))),
    ],
)
def test_what_is_asked_decides_the_digest(other):
    assert request_digests([RANKED], prune=True) != request_digests([other], prune=True)
    assert request_digests([RANKED], prune=True) == request_digests([replace(RANKED, pool=tuple(POOL))], prune=True)


def test_audio_is_asked_for_by_its_content(tmp_path, empty_home):
    """Wherever it lies; a file that is not there, by its path."""

    def digests(folder, *spans):
        pool = tuple(Speech(AudioSpan(folder / name, start_s)) for name, start_s in spans)
        request = Request("r", pool[:1], "speech", "speech", pool, tuple(range(len(pool))))
        return request_digests([request], prune=True)

    for folder in ("one", "other"):
        for name in "ab":
            path = tmp_path / folder / f"{name}.wav"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(name.encode())
    asked = digests(tmp_path / "one", ("a.wav", 0), ("b.wav", 0))
    assert digests(tmp_path / "other", ("a.wav", 0), ("b.wav", 0)) == asked
    assert digests(tmp_path / "one", ("b.wav", 0), ("a.wav", 0)) != asked
    assert digests(tmp_path / "one", ("a.wav", 0.5), ("b.wav", 0)) != asked
    assert digests(tmp_path / "one", ("x.wav", 0)) != digests(tmp_path / "one", ("y.wav", 0))
    (tmp_path / "other" / "a.wav").write_bytes(b"c")
    assert digests(tmp_path / "other", ("a.wav", 0), ("b.wav", 0)) != asked


def test_full_answers_and_ranks_are_not_confused():
    full, ranks = (request_digests([RANKED], prune=prune) for prune in (False, True))
    assert full != ranks
    assert full == request_digests([replace(RANKED, ranking=None)], prune=True)


def test_unscorable_requests_are_kept_too(store):
    long = Request("long", (Text("p" * 2000),), "text", "text", POOL, (0, 1, 2))
    found = answer_all(TinyDecoder(), [PRIOR, long], key=KEY, store=store)
    assert isinstance(found["long"].answer, Unscorable)
    used = TinyDecoder()
    before = used.calls
    assert answer_all(used, [PRIOR, long], key=KEY, store=store)["long"] == found["long"]
    assert used.calls == before


class Unbuilt:
    """A model that can say who it is and nothing else."""

    fingerprint = "f"

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")


def test_stored_answers_need_no_decoder(store):
    found = answer_all(TinyDecoder(), [PRIOR, RANKED], key=KEY, store=store)
    again = answer_all(Unbuilt(), [PRIOR, RANKED], key=KEY, store=store)
    assert repr(again) == repr(found)
    assert again.keys() == {"prior", RANKED.id}
    with pytest.raises(AssertionError, match="was asked for"):
        answer_all(Unbuilt(), [PRIOR, RANKED], key=replace(KEY, fingerprint="another"), store=store)


def test_work_of_a_resumed_run_is_that_of_the_whole(store):
    requests = [PRIOR, *(replace(RANKED, id=f"r{i}") for i in range(9))]
    whole = answer_all(TinyDecoder(), requests, key=KEY, batch_tokens=30)
    answer_all(TinyDecoder(), requests[:5], key=KEY, batch_tokens=30, store=store)
    resumed = answer_all(TinyDecoder(), requests, key=KEY, batch_tokens=30, store=store)
    assert total_work(resumed.values()) == total_work(whole.values())
    assert total_work(whole.values())["pairs"] == 3 + 9 * 2
    assert total_work(whole.values())["shared_prefix"] is True


@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_processes_share_blocks_without_duplicates(world):
    requests = [PRIOR, *(replace(RANKED, id=f"r{i}") for i in range(9))]
    blocks = [requests[:1], requests[1:3], requests[3:6], requests[6:]]
    shares = [_share(blocks, frozenset({"prior"}), Processes(rank, rank, world)) for rank in range(world)]
    assert all(share[0] == [PRIOR] for share in shares)
    dealt = [block for share in shares for block in share[1:]]
    assert sorted(block[0].id for block in dealt) == ["r0", "r2", "r5"]


# --- the command line -------------------------------------------------------------------------------------------------

RUN = [
    "run", "--tasks", "cra", "--limit", "6", "--batch-tokens", "40", "--set", "cra.directions=[u2t,t2t]",
    "--no-tracking", "--quiet",
]  # fmt: skip


class Commands:
    """The command line on a card of the tiny decoder, with a cache of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def card(self, **options):
        path = self.folder / "tiny.yaml"
        adapter = f"{Path(__file__).parents[1] / 'tiny_decoder.py'}:MODEL"
        path.write_text(yaml.safe_dump({"adapter": adapter, "checkpoint": "none", "options": options}))
        return str(path)

    def run(self, output, *more, **options):
        command = [
            sys.executable,
            "-m",
            "harness",
            *RUN,
            "--model",
            self.card(**options),
            "--output",
            str(output),
            *more,
        ]
        return subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)


@pytest.fixture
def commands(harness_home, tmp_path):
    return Commands(tmp_path)


@pytest.fixture(scope="module")
def expected(harness_home, tmp_path_factory):
    """Standard output and the bytes of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("expected")
    done = Commands(folder).run(folder / "out", "--no-cache", log=str(folder / "log"))
    assert done.returncode == 0, done.stderr
    return done.stdout, written(folder / "out"), (folder / "log").stat().st_size


def written(folder):
    return (folder / "results.json").read_bytes(), (folder / "items" / "cra.jsonl").read_bytes()


@pytest.mark.slow
def test_kill_9_and_the_same_command_end_with_the_same_bytes(commands, expected, tmp_path):
    stdout, results, num_calls = expected
    killed = commands.run(tmp_path / "out", kill_at=num_calls * 3 // 4, seconds=0.05)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    with RowStore(tmp_path / "cache" / "rows.sqlite3") as store:
        (entry,) = store.entries()
    assert 0 < entry.rows < 14
    again = commands.run(tmp_path / "out", log=str(tmp_path / "log"))
    assert (again.returncode, again.stdout) == (0, stdout)
    assert written(tmp_path / "out") == results
    assert 0 < (tmp_path / "log").stat().st_size < num_calls


@pytest.mark.slow
def test_two_processes_write_what_one_writes(commands, expected, tmp_path):
    stdout, results, _ = expected
    done = commands.run(tmp_path / "out", "--devices", "2")  # calls torchrun
    assert done.returncode == 0, done.stderr
    assert done.stdout == stdout
    assert written(tmp_path / "out") == results
    with RowStore(tmp_path / "cache" / "rows.sqlite3") as store:
        (entry,) = store.entries()
    assert entry.rows == 14


def test_cache_is_listed_and_cleared(commands, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_CACHE", commands.environment["HARNESS_CACHE"])
    with RowStore() as store:
        evaluate(model(), CONFIG, store=store)
    assert main(["cache", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["model"], entry["task"], entry["corpus"], entry["rows"]) == ("tiny", "cra", "demo:test", 14)
    assert main(["cache", "list"]) == 0
    assert "14 rows in" in capsys.readouterr().out
    assert main(["cache", "clear", "--model", "nobody"]) == 0
    assert capsys.readouterr().out == f"removed 0 rows from {tmp_path}/cache/rows.sqlite3\n"
    assert main(["cache", "clear", "--model", "tiny", "--task", "cra"]) == 0
    assert capsys.readouterr().out.startswith("removed 14 rows")
    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
