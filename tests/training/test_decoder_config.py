from harness.training.decoder import build_decoder
from harness.training.decoder_config import decoder_settings, weight_shapes
from tests.training.toy import ARCHITECTURE


def test_shapes_are_those_of_the_decoder():
    decoder = build_decoder(ARCHITECTURE, 31, seed=0)
    found = {name: tuple(value.shape) for name, value in decoder.state_dict().items() if name != "lm_head.weight"}
    assert weight_shapes(ARCHITECTURE, 31) == found


def test_settings_are_those_of_the_decoder():
    config = build_decoder(ARCHITECTURE, 31, seed=0).config.to_dict()
    assert all(config[name] == value for name, value in decoder_settings(ARCHITECTURE, 31).items())
