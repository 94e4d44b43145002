import numpy as np
import pytest

from harness.config import build
from harness.errors import ConfigError, UnknownNameError
from harness.sweep.plan import num_steps, sized_cards
from harness.sweep.simplex import Repetition
from harness.sweep.spec import SweepSpec, read_spec, sweeps_folder

SPEC = {
    "name": "s",
    "card": "sutlm-tiny",
    "tokens": 1000,
    "tasks": {"cra": {}},
    "objectives": ["cra.t2t.gold_nll"],
    "trials": 3,
}
FREE = Repetition((1e6,) * 4, (10,) * 4, 1000.0, "tokens", 4.0)


def spec(**changes):
    return build(SweepSpec, {**SPEC, **changes}, where="a sweep")


@pytest.mark.parametrize("name", sorted(p.stem for p in sweeps_folder().glob("*.yaml")))
def test_every_shipped_sweep_can_be_read_and_its_proxies_built(name):
    read = read_spec(name)
    assert read.name == name
    for card in sized_cards(read).values():
        assert num_steps(card, read.tokens) > 10


def test_an_unknown_sweep_is_named_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"There is no sweep called 'mixin'\. The nearest is 'mixing'"):
        read_spec("mixin")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": 5}, "unknown key 'token'. Did you mean 'tokens'"),
        ({"parts": {"speech": {"mn": 0}}}, "unknown key 'parts.speech.mn'"),
        ({"parts": {"audio": {}}}, "'parts.audio"),
        ({"parts": {"speech": {}}}, "at least two parts; found speech"),
        ({"parts": {"speech": {"min": 0.9, "max": 0.1}, "text": {}}}, "0 ≤ min ≤ max ≤ 1; found 0.9 and 0.1"),
        ({"parts": {"speech": {"max": 0.1}, "text": {}}}, "leave out the uniform mixture"),
        ({"objectives": ["pelm.t2t.ppl"]}, "'pelm.t2t.ppl' belongs to no task of the sweep: cra"),
        ({"objectives": []}, "at least one metric key"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"asha": {}, "objectives": ["cra.t2t.gold_nll", "cra.u2t.gold_nll"]}, "asha compares trials by one number"),
        ({"sampler": {"lattice": 1000}}, "too fine"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        spec(**changes)


def test_asha_needs_a_schedule_whose_middle_tells_something():
    with pytest.raises(ConfigError, match=r"set settings\.training\.schedule to wsd or constant"):
        sized_cards(spec(asha={}, settings={"training": {"schedule": "cosine"}}))


def test_parts_keep_the_order_of_the_formats():
    assert spec(parts={"ast": {}, "speech": {}}).names == ("speech", "ast")


def test_without_bounds_the_design_is_scheffes():
    assert len(spec().designed(FREE)) == 15
    assert len(spec().candidates(FREE)) == 1771


def test_bounds_hold_for_lattice_and_design():
    bounded = spec(parts={"speech": {"min": 0.1}, "text": {"max": 0.4}, "ast": {}}, sampler={"lattice": 10})
    free = Repetition((1e6,) * 3, (10,) * 3, 1000.0, "tokens", 4.0)
    for points in (bounded.candidates(free), bounded.designed(free)):
        assert np.allclose(points.sum(axis=1), 1)
        assert points[:, 0].min() >= 0.1 - 1e-9
        assert points[:, 1].max() <= 0.4 + 1e-9
    assert np.allclose(bounded.designed(free)[0], 1 / 3)
    assert len(bounded.designed(free)) >= 10  # what is forbidden was replaced


def test_repetition_caps_drop_points_and_the_design_is_filled_up():
    """1000 tokens, 200 in one pass of speech: at most 4 passes are a share of 0.8."""
    capped = Repetition((200.0, 1e6, 1e6, 1e6), (10,) * 4, 1000.0, "tokens", 4.0)
    assert spec().candidates(capped)[:, 0].max() == pytest.approx(0.8)
    design = spec().designed(capped)
    assert len(design) == 15
    assert design[:, 0].max() <= 0.8 + 1e-9


def test_a_budget_that_repeats_even_the_uniform_mixture_is_refused():
    with pytest.raises(ConfigError, match=r"more often than max_epochs=4 \(speech 5.0, text 0.0"):
        spec().candidates(Repetition((50.0, 1e6, 1e6, 1e6), (10,) * 4, 1000.0, "tokens", 4.0))
