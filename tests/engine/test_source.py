import shutil
from pathlib import Path

from harness.engine import source
from harness.engine.source import source_digest

FOLDER = Path(source.__file__).parent


def test_the_digest_covers_every_module(tmp_path):
    digests = {source_digest()}
    for module in FOLDER.glob("*.py"):
        copy = tmp_path / module.stem
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
        assert source_digest(copy) == source_digest()
        changed = tmp_path / f"{module.stem} changed"
        copy.rename(changed)
        with (changed / module.name).open("a") as stream:
            stream.write("# another way\n")
        digests.add(source_digest(changed))
    assert len(digests) == 1 + len(list(FOLDER.glob("*.py")))
