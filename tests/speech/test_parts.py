import subprocess
import sys

import pytest

from harness.errors import CheckpointError
from harness.speech.parts import TokenizerParts


def test_parts_of_a_folder_have_the_digests_of_the_tokenizer(trained, tmp_path):
    trained.save(tmp_path / "tok")
    parts = TokenizerParts.load(tmp_path / "tok")
    assert (parts.system, parts.digest) == (trained.system, trained.digest)
    assert parts.subwords.vocab_size == trained.vocab_size


def test_an_altered_part_is_refused(trained, tmp_path):
    trained.save(tmp_path / "tok")
    (tmp_path / "tok" / "units.model").unlink()
    with pytest.raises(CheckpointError, match="no unit subword model"):
        TokenizerParts.load(tmp_path / "tok")


def test_reading_parts_imports_no_torch(trained, tmp_path):
    trained.save(tmp_path / "tok")
    code = (
        "import sys; from pathlib import Path; from harness.speech.parts import TokenizerParts;"
        f"TokenizerParts.load(Path({str(tmp_path / 'tok')!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
