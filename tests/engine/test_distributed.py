"""Processes that share a run: really several of them, started by torchrun and connected by gloo."""

import json
import subprocess
import sys

import pytest

from harness.engine.distributed import ALONE, Processes

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from harness.engine.distributed import Processes

processes = Processes.of_environment()
with processes.connected():
    gathered = processes.gather({"rank": processes.rank, "text": "ü" * processes.rank})
    tensors = [torch.full((2, 3), float(processes.rank + 1)), torch.arange(4.0) * processes.rank]
    processes.add_up(tensors)
found = [processes.rank, processes.local_rank, processes.world, gathered, [t.tolist() for t in tensors]]
Path(sys.argv[1], f"{processes.rank}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of three processes found."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run([*command, folder / "script.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]


def test_each_process_knows_its_rank_and_how_many_there_are(found):
    assert [f[:3] for f in found] == [[0, 0, 3], [1, 1, 3], [2, 2, 3]]


def test_values_are_gathered_by_rank_in_every_process(found):
    expected = [{"rank": 0, "text": ""}, {"rank": 1, "text": "ü"}, {"rank": 2, "text": "üü"}]
    assert [f[3] for f in found] == [expected] * 3


def test_tensors_are_replaced_by_their_sums(found):
    """1 + 2 + 3 = 6 in each of 2 × 3 places; (0 + 1 + 2) · (0, 1, 2, 3)."""
    assert [f[4] for f in found] == [[[[6.0] * 3] * 2, [0.0, 3.0, 6.0, 9.0]]] * 3


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.of_environment() == ALONE
    monkeypatch.setenv("RANK", "1")  # some schedulers set this one alone
    assert Processes.of_environment() == ALONE


def test_a_process_alone_needs_no_connection():
    with ALONE.connected():
        assert ALONE.gather("value") == ["value"]
        ALONE.add_up([])


@pytest.mark.parametrize(
    ("world", "name", "device"),
    [(1, "cuda", "cuda"), (4, "cuda", "cuda:2"), (4, "cuda:0", "cuda:0"), (4, "cpu", "cpu")],
)
def test_each_process_has_a_gpu_of_its_own(world, name, device):
    assert Processes(rank=2, local_rank=2, world=world).device(name) == device
