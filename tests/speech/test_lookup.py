import io
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SampleError, UnitSystemError
from harness.segments import UnitSpan
from harness.speech.lookup import UnitLookup, UnitSegment

RATE, RATE_HZ, FRAME = 8_000, 50.0, 160


def span(frames, system="s"):
    return UnitSpan.from_frames(list(frames), rate_hz=RATE_HZ, system=system)


def texts(*spoken):
    """A lookup in recordings whose units are digits, one a frame; nothing is read from disk before it is heard."""
    return UnitLookup({Path(f"{n}.wav"): span(map(int, s)) for n, s in enumerate(spoken)}, sample_rate=RATE)


@pytest.fixture
def steps(tmp_path):
    """Recordings whose amplitude is a tenth of the unit, constant over its frames."""

    def lookup(*spoken):
        paths = [tmp_path / f"{n}.wav" for n in range(len(spoken))]
        for path, units in zip(paths, spoken, strict=True):
            wave = np.repeat([int(u) / 10 for u in units], FRAME)
            sf.write(path, wave.astype(np.float32), RATE, subtype="FLOAT")
        return UnitLookup({p: span(map(int, s)) for p, s in zip(paths, spoken, strict=True)}, sample_rate=RATE)

    return lookup


def test_the_longest_match_is_cut_with_the_durations_it_had():
    """Units 1 2 3 | 4 1 2 3 5: what is asked, 4 1 2 | 9 | 1, stands in the second, nowhere, and in the first."""
    lookup = texts("1122233", "44412235")
    assert lookup.segments([4, 1, 2, 9, 1]) == (
        [UnitSegment(Path("1.wav"), 0, 6), UnitSegment(Path("0.wav"), 0, 2)],
        1,
    )


def test_no_match_runs_from_one_recording_into_the_next():
    assert texts("12", "34").segments([1, 2, 3, 4]) == (
        [UnitSegment(Path("0.wav"), 0, 2), UnitSegment(Path("1.wav"), 0, 2)],
        0,
    )


def fewest(asked, spoken):
    """The least number of segments, tried out, where every unit is somewhere."""
    best = [0]
    for end in range(1, len(asked) + 1):
        best.append(min(best[i] + 1 for i in range(end) if any(asked[i:end] in s for s in spoken)))
    return best[-1]


UNITS = st.text("0123", min_size=1, max_size=12).map(lambda s: "".join(c for c, _ in groupby(s)))


@given(UNITS, st.lists(UNITS, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_segments_spell_the_units_and_are_as_few_as_can_be(asked, spoken):
    spoken = ["0", "1", "2", "3", *spoken]
    found, missing = texts(*spoken).segments(list(map(int, asked)))
    assert "".join(spoken[int(c.path.stem)][c.first : c.last] for c in found) == asked
    assert (len(found), missing) == (fewest(asked, spoken), 0)


def test_a_recording_looked_up_whole_is_itself(steps):
    sound = steps("1123").sound(span([1, 2, 3]))
    half = (len(sound.wave) - 4 * FRAME) // 2
    assert (sound.num_segments, sound.num_missing, sound.sample_rate) == (1, 0, RATE)
    np.testing.assert_allclose(sound.wave[2 * half : -2 * half], np.repeat([1, 1, 2, 3], FRAME)[half:-half] / 10)


def test_segments_fade_into_each_other_without_a_step(steps):
    """0.1 of one recording and 0.5 of another: in the 80 samples around the joint, 1/80 of the 0.4 at a time."""
    lookup = steps("13", "25")
    sound = lookup.sound(span([1, 5]))
    assert sound.num_segments == 2
    assert len(sound.wave) == 2 * FRAME + 80  # half a fade before and after
    # Beside the segments their recordings go on: 0.1 becomes 0.3 and 0.2 becomes 0.5 at the joint.
    joint = sound.wave[FRAME : FRAME + 80]
    rise = (np.arange(80) + 0.5) / 80
    first, second = np.repeat([0.1, 0.3], 40), np.repeat([0.2, 0.5], 40)
    np.testing.assert_allclose(joint, first * (1 - rise) + second * rise, atol=1e-6)
    np.testing.assert_allclose(sound.wave[80:FRAME], 0.1, atol=1e-6)
    np.testing.assert_allclose(sound.wave[FRAME + 80 : -80], 0.5, atol=1e-6)


def test_the_same_sound_is_the_same_file(steps):
    lookup = steps("1213", "31")
    first, again = (lookup.sound(span([1, 3, 1])).flac() for _ in range(2))
    wave, rate = sf.read(io.BytesIO(first))
    assert first == again
    assert (rate, len(wave)) == (RATE, 3 * FRAME + 2 * 40)


def test_units_that_nobody_spoke_are_no_sound(steps):
    assert steps("12").sound(span([7, 8])) is None


def test_units_of_another_system_are_refused():
    lookup = texts("12")
    with pytest.raises(UnitSystemError, match="system other cannot be looked up among those of s"):
        lookup.sound(span([1], "other"))
    with pytest.raises(UnitSystemError):
        UnitLookup({Path("a"): span([1]), Path("b"): span([1], "other")}, sample_rate=RATE)
    with pytest.raises(SampleError, match="no recordings"):
        UnitLookup({}, sample_rate=RATE)
