"""Checkpoints in the model registry of a real SQLite store."""

import hashlib
from dataclasses import replace

import pytest

from harness.errors import CheckpointError, InputError
from harness.model import ModelCard, read_card
from harness.results import write_results
from harness.tracking.evaluations import log_run
from harness.tracking.registry import fetch_model, register_model
from harness.tracking.storage import AbsentError, TrackingError
from tests.tracking.examples import INFO, result

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class TestRegistry:
    @pytest.fixture
    def card(self, tmp_path):
        """A card whose checkpoint holds a folder of its own."""
        (tmp_path / "weights" / "speech").mkdir(parents=True)
        (tmp_path / "weights" / "model.safetensors").write_bytes(b"weights")
        (tmp_path / "weights" / "speech" / "tokenizer.json").write_text("{}")
        return ModelCard("mine", "sutlm", checkpoint="weights", training={"steps": 3}, folder=tmp_path)

    def test_a_registered_checkpoint_comes_back_with_its_card(self, store, card, empty_home):
        uri = register_model(store, card, "tiny", fingerprint="abc", aliases=("best", "prod"))
        assert uri == "models:/tiny/1"
        for name in ("models:/tiny/1", "models:/tiny@best", "models:/tiny@prod"):
            fetched = read_card(str(fetch_model(store, name)))
        assert (fetched.name, fetched.adapter, fetched.training) == ("tiny-v1", "sutlm", {"steps": 3})
        assert fetched.sha256 == hashlib.sha256(b"weights").hexdigest()
        assert (fetched.require_checkpoint() / "speech" / "tokenizer.json").is_file()
        assert len(list((empty_home / "registry").glob("tiny-v1-*/"))) >= 1

    def test_an_alias_moves_to_the_newest(self, store, card, empty_home):
        register_model(store, card, "moving", fingerprint="abc", aliases=("best",))
        (card.checkpoint_path / "model.safetensors").write_bytes(b"better")
        register_model(store, card, "moving", fingerprint="abd", aliases=("best",))
        best = read_card(str(fetch_model(store, "models:/moving@best")))
        assert best.name == "moving-v2"
        assert (best.checkpoint_path / "model.safetensors").read_bytes() == b"better"

    def test_evaluations_are_linked_to_the_model_they_evaluate(self, store, client, card, tmp_path):
        register_model(store, card, "linked", fingerprint="linked-fingerprint")
        evaluated = replace(result("of-linked"), model={"name": "mine", "fingerprint": "linked-fingerprint"})
        write_results(evaluated, tmp_path / "out")
        logged = log_run(evaluated, store, infos={"cra": INFO}, folder=tmp_path / "out")
        [model] = client.get_run(logged.run_id).inputs.model_inputs
        found = client.get_logged_model(model.model_id)
        assert {m.key: m.value for m in found.metrics}["cra.u2t.pmi.r_at_1"] == 0.5

    @pytest.mark.parametrize(
        ("name", "alias", "message"),
        [("a/b", "best", "'a/b' cannot name"), ("x", "v1", "'v1' cannot be an alias"), ("x", "Latest", "'Latest'")],
    )
    def test_names_that_cannot_be_are_refused_at_once(self, store, client, card, name, alias, message):
        before = {m.name for m in client.search_registered_models()}
        with pytest.raises(InputError, match=message):
            register_model(store, card, name, fingerprint="abc", aliases=("fine", alias))
        assert {m.name for m in client.search_registered_models()} == before

    def test_what_cannot_be_had_is_an_error(self, store, client, card):
        with pytest.raises(InputError, match="names no registered model; write models:/NAME/VERSION"):
            fetch_model(store, "models:/tiny")
        with pytest.raises(AbsentError, match="Fetching models:/nosuch/1") as caught:
            fetch_model(store, "models:/nosuch/1")
        assert caught.value.exit_code == 2
        with pytest.raises(CheckpointError, match="no weights"):
            register_model(store, replace(card, checkpoint="nowhere"), "tiny", fingerprint="")
        client.create_registered_model("bare")
        client.create_model_version("bare", str(card.checkpoint_path))
        with pytest.raises(TrackingError, match="was not registered by 'harness register'"):
            fetch_model(store, "models:/bare/1")
