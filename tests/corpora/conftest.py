"""Audio and alignment files for corpora laid out in `tmp_path`."""

import numpy as np
import pytest
import soundfile


@pytest.fixture
def write_audio():
    """Writes `seconds` of quiet tone and returns the path; the suffix names the format."""

    def write(path, seconds=1.0, rate=16000):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.sin(np.arange(round(seconds * rate)) / 10), rate)
        return path

    return write


@pytest.fixture
def write_textgrid():
    """Writes the words `[(word, start, end), …]` as a TextGrid in the short format and returns the path."""

    def write(path, words):
        path.parent.mkdir(parents=True, exist_ok=True)
        end = words[-1][2]
        rows = [f'{start}\n{end}\n"{word}"' for word, start, end in words]
        head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end), "<exists>", "1"]
        tier = ['"IntervalTier"', '"words"', "0", str(end), str(len(words))]
        path.write_text("\n".join([*head, *tier, *rows]) + "\n", "utf-8")
        return path

    return write
