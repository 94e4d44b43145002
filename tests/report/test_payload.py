"""The items of a page, and the audio beside them."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.report.pages import Page, page
from tests.runs import drawn, item, run, written

HOSTILE = '</script><script>alert(1)</script> \u2028 & "quoted" <b>'


@pytest.fixture(scope="module")
def runs():
    return [drawn(name, skill=skill) for name, skill in (("bad", 0.1), ("good", 0.9))]


@pytest.fixture(scope="module")
def text(runs):
    return page(runs)


class TestItems:
    def test_items_are_joined_by_id_and_shared_where_runs_agree(self, runs, text):
        task = Page(text).data["tasks"][0]
        assert (task["name"], task["total"], len(task["ids"])) == ("cra", 60, 60)
        columns = {c["name"]: c for c in task["columns"]}
        assert columns["prompt"]["shared"]
        assert not columns["output"]["shared"]
        assert task["roles"] == {"prompt": "prompt", "reference": "reference", "output": "output"}
        strings = Page(text).data["strings"]
        place = [strings[i] for i in task["ids"]].index("u2t/utt-0003")
        expected = next(i for i in runs[1].tasks["cra"].items if i.id == "u2t/utt-0003")
        assert columns["ranks.pmi.rank"]["values"][1][place] == expected.scores["ranks"]["pmi"]["rank"]
        assert strings[columns["output"]["values"][1][place]] == expected.output
        assert len(strings) == len(set(strings))

    def test_texts_cannot_leave_their_place(self):
        bad = run(HOSTILE, [item(0, "u2t", 1, prompt=HOSTILE, note=HOSTILE), item(1, "u2t", 2)])
        found = Page(page([bad]))
        assert found.tags.count("script") == 2
        assert "b" not in found.tags
        assert HOSTILE in found.data["strings"]
        assert found.data["runs"] == [HOSTILE]

    def test_items_of_one_run_and_failed_ones_are_told(self, runs):
        items = list(runs[0].tasks["cra"].items)
        items[0] = replace(items[0], output=None, scores={}, failed="too long")
        found = Page(page([run("one", items)])).data
        columns = {c["name"]: c for c in found["tasks"][0]["columns"]}
        assert found["strings"][columns["failed"]["values"][0]] == "too long"
        assert columns["failed"]["values"][1] is None
        assert columns["ranks.pmi.rank"]["values"][0] is None

    @pytest.mark.slow
    def test_four_models_with_two_thousand_items_stay_below_two_megabytes(self):
        many = [drawn(f"model-{k}", skill=0.2 * k, num=1000, draw=k) for k in range(4)]
        whole = page(many)
        assert len(whole.encode()) < 2_000_000
        assert len(Page(whole).data["tasks"][0]["ids"]) == 2000

    def test_what_does_not_fit_is_sampled_evenly_and_said(self):
        long = [item(n, d, 1 + n % 5, prompt=f"{d} {n} " + "word " * 300) for d in ("u2t", "t2u") for n in range(700)]
        whole = page([run("wordy", long)])
        assert len(whole.encode()) < 2_000_000
        task = Page(whole).data["tasks"][0]
        assert task["total"] == 1400
        assert 700 < len(task["ids"]) < 1400
        directions = next(c for c in task["columns"] if c["name"] == "direction")["values"]
        counts = sorted(directions.count(d) for d in set(directions))
        assert counts[1] - counts[0] <= 2

    def test_the_task_says_which_score_is_shown_first(self, runs):
        assert Page(page(runs)).data["tasks"][0]["score"] == "ranks.pmi.rank"


class TestAudio:
    @pytest.fixture
    def heard(self, tmp_path):
        """A run whose items name audio of the corpus."""
        (tmp_path / "corpus" / "wav").mkdir(parents=True)
        soundfile.write(tmp_path / "corpus" / "wav" / "a b.wav", np.zeros(800, np.float32), 16_000)
        items = [item(0, "u2t", 1, audio="wav/a b.wav"), item(1, "u2t", 2, audio="wav/gone.wav")]
        made = run("heard", items)
        made.protocol["corpus"]["root"] = str(tmp_path / "corpus")
        return made

    def audio(self, text):
        data = Page(text).data
        column = next(c for c in data["tasks"][0]["columns"] if c["name"] == "audio")
        return [None if v is None else data["strings"][v] for v in column["values"]]

    def test_it_is_linked_relative_to_the_page(self, heard, tmp_path):
        (tmp_path / "out").mkdir()
        text = page([heard], tmp_path / "out" / "report.html")
        assert self.audio(text) == ["../corpus/wav/a%20b.wav", None]

    def test_it_can_be_embedded_or_left_out(self, heard, tmp_path):
        first, absent = self.audio(page([heard], tmp_path / "report.html", audio="embed"))
        assert first.startswith("data:audio/")
        assert len(first) > 1000  # 800 samples of 16 bits, in base64, whole
        assert absent is None
        assert self.audio(page([heard], tmp_path / "report.html", audio="none")) == [None, None]

    def test_generated_audio_lies_in_the_results_folder(self, heard, tmp_path):
        folder = written(heard, tmp_path / "run")
        (folder / "wav").mkdir()
        soundfile.write(folder / "wav" / "gone.wav", np.zeros(800, np.float32), 16_000)
        text = page([heard], tmp_path / "report.html", folders=[folder])
        assert self.audio(text) == ["corpus/wav/a%20b.wav", "run/wav/gone.wav"]
