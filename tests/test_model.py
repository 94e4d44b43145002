import itertools

import pytest
import torch
import yaml

from harness.corpora.corpus import open_corpus
from harness.errors import CheckpointError, ConfigError, InputError, UnitSystemError, UnknownNameError
from harness.model import Hidden, adapter_registry, card_names, load_model, read_card
from harness.segments import AudioSpan, Speech, Text, UnitSpan
from harness.testing import ModelContract, OracleModel, UniformModel, fake_units
from harness.testing.models import RATE_HZ, SYSTEM

# --- cards ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write_card(tmp_path, monkeypatch):
    """Writes a card into the current folder and returns how the command line would name it."""
    monkeypatch.chdir(tmp_path)

    def write(file, /, **content):
        (tmp_path / file).write_text(yaml.safe_dump(content))
        return f"./{file}"

    return write


@pytest.mark.parametrize("name", card_names())
def test_every_shipped_card_names_itself_and_an_adapter(name):
    card = read_card(name)
    assert card.name == name
    assert card.adapter in adapter_registry().sources()


def test_a_card_goes_by_its_file_unless_it_says_otherwise(write_card):
    assert read_card(write_card("mine.yaml", adapter="sutlm")).name == "mine"
    assert read_card(write_card("mine.yaml", adapter="sutlm", name="ours")).name == "ours"


def test_a_checkpoint_lies_beside_its_card_or_in_the_harness_home(write_card, tmp_path, empty_home):
    card = read_card(write_card("mine.yaml", adapter="sutlm", checkpoint="weights"))
    assert card.checkpoint_path.resolve() == tmp_path / "weights"
    card = read_card(write_card("mine.yaml", adapter="sutlm"))
    assert card.checkpoint_path == empty_home / "checkpoints" / "mine"


def test_a_card_without_weights_says_how_to_get_them(write_card, tmp_path):
    card = read_card(write_card("mine.yaml", adapter="sutlm", checkpoint="weights", source="the attic"))
    assert not card.available
    with pytest.raises(CheckpointError, match=r"'mine' has no weights at .*harness train --model.*attic"):
        card.require_checkpoint()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").touch()
    assert card.available
    assert card.require_checkpoint().name == "weights"


def test_an_adapter_without_weights_is_always_there(write_card):
    card = read_card(write_card("mine.yaml", adapter="sutlm", checkpoint="none"))
    assert card.available
    card.require_checkpoint()


def test_a_card_takes_from_its_base_all_but_the_weights(write_card):
    write_card(
        "old.yaml", adapter="sutlm", checkpoint="old", sha256="3fa9", architecture={"num_layers": 4, "context": 512}
    )
    write_card("middle.yaml", base="old", license="MIT")
    card = read_card(write_card("new.yaml", base="middle", architecture={"num_layers": 8}))
    assert (card.name, card.adapter, card.license) == ("new", "sutlm", "MIT")
    assert card.architecture == {"num_layers": 8, "context": 512}
    assert (card.checkpoint, card.sha256) == (None, None)


def test_a_base_is_looked_for_beside_the_card_and_among_the_shipped(write_card):
    assert read_card(write_card("mine.yaml", base="sutlm-tiny")).architecture == read_card("sutlm-tiny").architecture
    write_card("sutlm-tiny.yaml", adapter="sutlm", license="mine")
    assert read_card("./mine.yaml").license == "mine"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"adapter": "sutlm", "chekpoint": "a"}, ConfigError, r"unknown key 'chekpoint'. Did you mean 'checkpoint'"),
        ({"license": "MIT"}, ConfigError, r"mine.yaml: 'adapter' is missing"),
        ({"adapter": "sutlm", "options": 3}, ConfigError, r"'options'"),
        ({"base": "sutlm-tny"}, UnknownNameError, r"no base card called 'sutlm-tny'.*'sutlm-tiny'"),
        ({"base": "mine"}, ConfigError, r"bases lead back to itself"),
    ],
)
def test_says_what_is_wrong_with_a_card(write_card, content, error, message):
    with pytest.raises(error, match=message):
        read_card(write_card("mine.yaml", **content))


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no model called 'sutlm-tinny'.*'sutlm-tiny'"):
        read_card("sutlm-tinny")


def test_an_absent_card_file_is_said_to_be_absent():
    with pytest.raises(ConfigError, match=r"There is no file .*absent.yaml"):
        read_card("./absent.yaml")


def test_an_unknown_adapter_is_answered_with_the_nearest(write_card):
    with pytest.raises(UnknownNameError, match=r"no model adapter called 'sutml'.*'sutlm'"):
        load_model(write_card("mine.yaml", adapter="sutml"))


def test_a_card_may_name_an_adapter_by_file(write_card, tmp_path):
    (tmp_path / "adapter.py").write_text("def MODEL(card, *, device='cpu'):\n    return card.options['x'], device\n")
    card = write_card("mine.yaml", adapter="adapter.py:MODEL", checkpoint="none", options={"x": 3})
    assert load_model(card, device="meta") == (3, "meta")


# --- the models that are shipped for tests ----------------------------------------------------------------------------

PROMPT, GOLD, WRONG = Text("she said"), Text("nothing"), Text("nothing at all")


def loglikelihood(model, prompt, continuation):
    context = model.encode_prompt((prompt,), continuation.modality)
    ids = context + model.encode_continuation(continuation)
    logprobs = model.logits(model.forward(torch.tensor([ids])).states)[0].log_softmax(-1)
    return sum(float(logprobs[i - 1, ids[i]]) for i in range(len(context), len(ids)))


@pytest.fixture
def recording(harness_home):
    corpus = open_corpus("demo", "test")
    return corpus.audio_path(corpus.utterances[0]), corpus.utterances[0].seconds


class TestUniform(ModelContract):
    @classmethod
    def load(cls):
        return UniformModel()


class TestUniformOfText(ModelContract):
    @classmethod
    def load(cls):
        return UniformModel({"text"})


class TestOracle(ModelContract):
    @classmethod
    def load(cls):
        return OracleModel([((Text(cls.texts[0]),), Text(cls.texts[1])), ((PROMPT,), GOLD)])


def test_uniform_gives_every_token_the_same():
    """Six specials, 50 units, 256 bytes: each token has 1/312."""
    expected = -7 * torch.tensor(312.0).log()
    assert loglikelihood(UniformModel(), PROMPT, GOLD) == pytest.approx(float(expected), rel=1e-6)


def test_oracle_is_sure_of_what_it_was_told():
    model = OracleModel([((PROMPT,), GOLD)])
    assert loglikelihood(model, PROMPT, GOLD) == pytest.approx(0.0, abs=1e-6)
    assert loglikelihood(model, PROMPT, WRONG) < -30
    assert loglikelihood(model, PROMPT, Text("everything")) < -30
    assert loglikelihood(model, Text("he said"), GOLD) == loglikelihood(UniformModel(), PROMPT, GOLD)


def test_oracle_finds_all_truths_of_a_prompt_alike():
    model = OracleModel([((PROMPT,), Text("yes")), ((PROMPT,), Text("no"))])
    expected = pytest.approx(-float(torch.tensor(2.0).log()), rel=1e-6)
    assert loglikelihood(model, PROMPT, Text("yes")) == loglikelihood(model, PROMPT, Text("no")) == expected


def test_oracles_of_other_truths_have_other_fingerprints():
    truths: list = [[((PROMPT,), GOLD)], [((PROMPT,), WRONG)], [((), GOLD)], []]
    assert len({OracleModel(truth).fingerprint for truth in truths}) == len(truths)


def test_fake_units_last_40_ms_and_depend_on_the_file_alone(recording):
    path, seconds = recording
    units = fake_units(path)
    assert units.num_frames == int(seconds * RATE_HZ)
    assert set(units.durations) == {1}
    model = UniformModel()
    halves = [Speech(AudioSpan(path, 0.0, 1.2)), Speech(AudioSpan(path, 1.2))]
    whole = model.encode_continuation(Speech(AudioSpan(path)))
    assert [i for half in halves for i in model.encode_continuation(half)] == whole
    assert len(model.encode_continuation(halves[0])) == 30


def test_what_a_model_does_not_take_is_refused(recording):
    model = UniformModel({"text"})
    with pytest.raises(InputError, match="Model 'uniform' takes text; got Speech"):
        model.encode_continuation(Speech(AudioSpan(recording[0])))
    with pytest.raises(UnitSystemError, match=f"system mfcc were given to a model of system {SYSTEM}"):
        UniformModel().encode_continuation(Speech(units=UnitSpan((1,), (1,), 25.0, "mfcc")))
    with pytest.raises(InputError, match="at least one segment"):
        model.encode_prompt((), "text")


# --- the contract notices what is wrong -------------------------------------------------------------------------------


class Sound(UniformModel):
    """Predicts from the last token alone, and sees nothing else."""

    def __init__(self):
        super().__init__({"text"})

    def _states(self, ids):
        return ids.float()

    def logits(self, states):
        return torch.cos(states * torch.arange(312.0))


class SeesTheFuture(Sound):
    def _states(self, ids):
        return ids.float() + ids[:, -1:]


class SeesPadding(Sound):
    def _states(self, ids):
        return ids.float() + ids.shape[1]


class SeesWhatPaddingHolds(Sound):
    def _states(self, ids):
        return ids.float() + ids.sum(1, keepdim=True)


class Forgets(Sound):
    def forward(self, ids, *, lengths=None, past=None, keep=False):
        return Hidden(ids.float().cumsum(1)[..., None], True if keep else None)


class IsAlwaysAnother(Sound):
    loads = itertools.count()

    def __init__(self):
        super().__init__()
        self.fingerprint = str(next(self.loads))


class Shouts(Sound):
    def decode(self, ids):
        return tuple(Text(s.text.upper()) for s in super().decode(ids))


class TakesAnyUnits(Sound):
    def encode_continuation(self, segment):
        return [0] if isinstance(segment, Speech) else super().encode_continuation(segment)


class ForgetsToStart(Sound):
    def encode_prompt(self, prompt, target):
        return super().encode_prompt(prompt, target)[1:]


class HasNoPrior(Sound):
    def encode_prior(self, source, target):
        return []


class IsTooShort(Sound):
    def __init__(self):
        super().__init__()
        self.max_length = 20


class IsNotFinite(Sound):
    def logits(self, states):
        return super().logits(states).log()


def contract_for(model):
    return type("Contract", (ModelContract,), {"load": classmethod(lambda cls: model())})()


@pytest.mark.parametrize("promise", [name for name in dir(ModelContract) if name.startswith("test_")])
def test_the_contract_finds_nothing_wrong_with_a_sound_model(promise):
    getattr(contract_for(Sound), promise)()


@pytest.mark.parametrize(
    ("model", "promise"),
    [
        (SeesTheFuture, "the_future_does_not_reach_back"),
        (SeesPadding, "likelihoods_do_not_depend_on_the_batch"),
        (SeesWhatPaddingHolds, "likelihoods_do_not_depend_on_what_padding_holds"),
        (Forgets, "going_on_from_what_was_kept_changes_nothing"),
        (IsAlwaysAnother, "the_fingerprint_is_the_same_at_every_load"),
        (Shouts, "text_comes_back_from_its_tokens"),
        (TakesAnyUnits, "units_of_another_system_are_refused"),
        (ForgetsToStart, "the_prior_is_the_context_without_the_prompt"),
        (HasNoPrior, "what_is_said_becomes_tokens_within_its_length"),
        (IsTooShort, "what_is_said_becomes_tokens_within_its_length"),
        (IsNotFinite, "states_and_logits_have_their_shapes"),
    ],
)
def test_the_contract_notices(model, promise):
    with pytest.raises(AssertionError):
        getattr(contract_for(model), f"test_{promise}")()
