from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.errors import SegmentError
from harness.segments import DIRECTIONS, AudioSpan, Speech, Text, UnitSpan, modalities_of

RATES = st.sampled_from([12.5, 25.0, 50.0, 62.5, 100.0])
FRAMES = st.lists(st.integers(0, 3), min_size=1, max_size=40)
#: Times as corpora give them, in milliseconds; every tenth is often the very center of a frame.
TIMES_MS = st.integers(0, 80).map(lambda k: 10 * k) | st.integers(0, 800)


def span(frames, rate_hz=50.0):
    return UnitSpan.from_frames(frames, rate_hz=rate_hz, system="s")


def frames_of(units):
    return [u for u, n in zip(units.units, units.durations, strict=True) for _ in range(n)]


def frames_between(frames, rate_hz, start_s, end_s):
    """Frame by frame, in exact arithmetic: those whose center lies in `[start_s, end_s)`."""
    centers = [(i + Fraction(1, 2)) / Fraction(rate_hz) for i in range(len(frames))]
    return [f for f, center in zip(frames, centers, strict=True) if start_s <= center < end_s]


def test_repeats_become_durations():
    units = span([7, 7, 7, 2, 7])
    assert (units.units, units.durations) == ((7, 2, 7), (3, 1, 1))
    assert (units.num_frames, units.seconds) == (5, 0.1)


@given(FRAMES)
def test_frames_come_back_and_neighbors_differ(frames):
    units = span(frames)
    assert frames_of(units) == frames
    assert all(a != b for a, b in zip(units.units, units.units[1:], strict=False))


def test_a_cut_by_hand():
    """Frames of 20 ms, centers at 10, 30, 50, 70, 90 ms: 30 to 70 ms holds the second and third, not the fourth."""
    cut = span([1, 1, 2, 2, 3]).cut(0.030, 0.070)
    assert (cut.units, cut.durations) == ((1, 2), (1, 1))


@given(FRAMES, RATES, TIMES_MS, TIMES_MS)
def test_a_cut_has_the_frames_whose_center_lies_in_it(frames, rate_hz, start_ms, length_ms):
    start, end = Fraction(start_ms, 1000), Fraction(start_ms + length_ms, 1000)
    found = frames_of(span(frames, rate_hz).cut(float(start), float(end)))
    assert found == frames_between(frames, rate_hz, start, end)


@given(FRAMES, RATES, st.floats(0, 4), st.floats(0, 4))
def test_a_cut_at_any_time(frames, rate_hz, start_s, length_s):
    end_s = start_s + length_s
    # A center within rounding of a bound may fall on either side of it.
    assume(all(abs((at * rate_hz - 0.5) - round(at * rate_hz - 0.5)) > 1e-9 for at in (start_s, end_s)))
    assert frames_of(span(frames, rate_hz).cut(start_s, end_s)) == frames_between(frames, rate_hz, start_s, end_s)


@given(FRAMES, RATES, st.floats(0, 4))
def test_two_parts_make_the_whole(frames, rate_hz, at_s):
    whole = span(frames, rate_hz)
    assert frames_of(whole.cut(0.0, at_s)) + frames_of(whole.cut(at_s, None)) == frames


def test_a_cut_keeps_what_units_mean():
    cut = UnitSpan((1, 2), (2, 2), 25.0, "mfcc/k50").cut(0.0, 0.08)
    assert (cut.rate_hz, cut.system) == (25.0, "mfcc/k50")


def test_a_cut_outside_is_empty():
    assert span([1, 2]).cut(1.0, 2.0).units == ()
    assert span([1, 2]).cut(0.03, 0.02).units == ()


def test_an_end_beyond_the_audio_is_its_end():
    assert frames_of(span([1, 2]).cut(0.0, 99.0)) == [1, 2]


@pytest.mark.parametrize(
    ("units", "durations", "message"),
    [((1, 2), (1,), "2 units but 1 durations"), ((1,), (0,), "at least one frame")],
)
def test_refuses_units_without_their_durations(units, durations, message):
    with pytest.raises(SegmentError, match=message):
        UnitSpan(units, durations, 50.0, "s")


def test_speech_is_audio_or_units():
    assert Speech(audio=AudioSpan(Path("a.wav"))).modality == "speech"
    assert Speech(units=span([1])).modality == "speech"
    assert Text("").modality == "text"
    with pytest.raises(SegmentError, match="needs audio or units; got neither"):
        Speech()


def test_segments_with_the_same_content_are_the_same():
    assert len({Text("a"), Text("a"), Speech(units=span([1, 1])), Speech(units=span([1, 1]))}) == 2


def test_directions_name_prompt_and_continuation():
    assert [modalities_of(d) for d in DIRECTIONS] == [
        ("speech", "speech"),
        ("speech", "text"),
        ("text", "speech"),
        ("text", "text"),
    ]


@pytest.mark.parametrize("direction", ["", "s2t", "t2", "u2tt", "u-t"])
def test_refuses_other_directions(direction):
    with pytest.raises(SegmentError, match=f"'{direction}' is not a direction; use one of u2u, u2t, t2u, t2t"):
        modalities_of(direction)
