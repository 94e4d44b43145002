import pytest
import yaml

from harness.errors import CheckpointError, ConfigError, DeviceError, OptionError, UnknownNameError
from harness.model import ModelCard, adapter_registry, card_names, load_model, read_card


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
    assert load_model(card, device="cpu:0") == (3, "cpu:0")


@pytest.mark.parametrize("device", ["banana", "", "meta", "cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(DeviceError, match=rf"The device '{device}' cannot be used: .* Give cpu, cuda or cuda:1\."):
        load_model("sutlm-tiny", device=device)


@pytest.mark.parametrize("name", ["../escape", "a/b", "a\\b", "", " ", ".hidden", "a\nb"])
def test_a_name_that_could_not_be_a_folder_is_refused(name):
    with pytest.raises(ConfigError, match="A model cannot be called"):
        ModelCard(name=name, adapter="sutlm")
    assert ModelCard(name="größe 2", adapter="sutlm").name == "größe 2"


def test_a_base_is_one_name(write_card):
    with pytest.raises(ConfigError, match=r"'base' is the name of one card; found \['a'\]"):
        read_card(write_card("own.yaml", base=["a"], adapter="sutlm"))


def test_what_is_neither_a_name_nor_a_path_is_refused():
    with pytest.raises(OptionError, match="found None"):
        load_model(None)
