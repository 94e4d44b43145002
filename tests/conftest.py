"""The environment of every test: offline, without telemetry, with state of its own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Before any test module imports a library that reads these when imported. The demo corpus is generated
# once and kept in .pytest-home (git-ignored) from one test session to the next.
os.environ["HARNESS_HOME"] = os.environ.get("HARNESS_TEST_HOME", str(ROOT / ".pytest-home"))
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="agg",
)
os.environ.pop("MLFLOW_TRACKING_URI", None)
# Test processes share the cores already; more threads than cores cost several times what they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine's speed decides nothing: examples have no deadline.
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")


def pytest_collection_modifyitems(config, items):
    """Skips tests marked `gpu` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def harness_home():
    """The folder that `$HARNESS_HOME` names in this test session."""
    home = Path(os.environ["HARNESS_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    return home


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """An empty `$HARNESS_HOME` for a test that must not see or leave state."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HARNESS_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def shared_data():
    """A folder of real audio, text and units beside the repository; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data folder {folder}, which is absent")
    return folder


@pytest.fixture(scope="session")
def slice_folder(harness_home, tmp_path_factory):
    """A card, a dozen utterances, and the checkpoint that two steps on them gave."""
    import yaml

    from tests.toy import card_for, copy_utterances

    folder = tmp_path_factory.mktemp("toy")
    copy_utterances(folder, dev=3)
    (folder / "toy.yaml").write_text(yaml.safe_dump(card_for(folder)))
    return folder


@pytest.fixture(scope="session")
def trained(slice_folder):
    """What those two steps came to."""
    from harness.model import read_card
    from harness.training.train import train_model, training_card

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(slice_folder / "home"))
        card = training_card(read_card(str(slice_folder / "toy.yaml")), corpus=None, settings={})
        return train_model(card, output=slice_folder / "checkpoint")
