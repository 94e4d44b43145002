import pytest
import torch

from harness.corpora.corpus import open_corpus
from harness.errors import InputError, UnitSystemError
from harness.segments import AudioSpan, Speech, Text, UnitSpan
from harness.testing import ModelContract, OracleModel, UniformModel, fake_units
from harness.testing.models import RATE_HZ, SYSTEM

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
