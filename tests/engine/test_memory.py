"""Budgets of tokens by hand, and the memory that a process may take, control groups included."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import OPTConfig

from harness.engine import memory
from harness.errors import OutOfMemoryError

MiB = 2**20


@pytest.fixture
def model():
    """All that budgets depend on: a device, and the sizes of a decoder of two layers."""
    config = OPTConfig(vocab_size=24, hidden_size=32, num_hidden_layers=2, ffn_dim=64, num_attention_heads=4)
    return SimpleNamespace(device=torch.device("cpu"), module=SimpleNamespace(config=config))


def test_bytes_of_a_token(model):
    """Keys and values: 2 · 2 layers · 32 = 128 numbers, twice; 8 · 32 = 256; 3 · 64 = 192: 704 numbers of 4 bytes."""
    assert memory.bytes_per_token(model.module.config) == 704 * 4


def test_batches_fit_into_half_of_the_free_memory(model, monkeypatch):
    """Logits take 128 · 3 · 4 · 24 bytes and their weights 32 · 4 · 24; of 10 MB, 5 MB less these are for tokens."""
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**7)
    assert memory.token_budget(model) == (5 * 10**6 - 36864 - 3072) // 2816
    monkeypatch.setattr(memory, "available_bytes", lambda device: 0)
    assert memory.token_budget(model) == 16
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**12)
    assert memory.token_budget(model) == 8192


def test_passes_hold_equally_many_bytes(model, monkeypatch):
    """448 numbers of 4 bytes a token, 1,792 bytes: keys and values are the batch's."""
    monkeypatch.setattr(memory, "_PASS_BYTES", 10**6)
    assert memory.pass_tokens(model) == 10**6 // 1792
    monkeypatch.setattr(memory, "_PASS_BYTES", 1)
    assert memory.pass_tokens(model) == 16
    monkeypatch.setattr(memory, "_PASS_BYTES", 10**9)
    assert memory.pass_tokens(model) == 8192


def test_a_model_without_a_decoder_has_the_largest_budget(model):
    model.module = None
    assert memory.token_budget(model) == memory.pass_tokens(model) == 8192


def test_the_system_says_its_memory():
    assert MiB < memory.available_bytes("cpu") <= psutil.virtual_memory().total


@pytest.fixture
def groups(tmp_path):
    """Writes the files of control groups; returns what `cgroup_bytes` finds for a process in the given ones."""

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return sorted(memory.cgroup_bytes(tmp_path / "cgroup", tmp_path / "own"))

    return write


V2, V1 = "0::/jobs/mine\n", "9:name=systemd:/\n4:cpu,memory:/jobs/mine\n0::/\n"


def test_version_2_has_its_limit_less_what_is_used(groups):
    assert groups(V2, {"jobs/mine/memory.max": 100 * MiB, "jobs/mine/memory.current": 30 * MiB}) == [70 * MiB]


def test_version_1_has_its_limit_less_what_is_used(groups):
    files = {"memory.limit_in_bytes": 100 * MiB, "memory.usage_in_bytes": 30 * MiB}
    assert groups(V1, {f"memory/jobs/mine/{name}": n for name, n in files.items()}) == [70 * MiB]


@pytest.mark.parametrize(
    ("own", "files"),
    [
        (V2, {"memory.max": 100, "memory.current": 60, "memory.stat": "anon 35\ninactive_file 20\nactive_file 5"}),
        (
            V1,
            {
                "memory/memory.limit_in_bytes": 100,
                "memory/memory.usage_in_bytes": 60,
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 20",
            },
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_pages_of_files_that_can_be_given_up_are_not_in_use(groups, own, files):
    """100 − (60 − 20) = 60. In a container, the group of the process is where control groups are mounted."""
    assert groups(own, files) == [60]


def test_groups_above_count_too_and_so_does_the_limit_that_slows_down(groups):
    files = {
        "jobs/memory.max": 50, "jobs/memory.current": 45,
        "jobs/mine/memory.max": "max", "jobs/mine/memory.high": 30, "jobs/mine/memory.current": 10,
    }  # fmt: skip
    assert groups(V2, files) == [5, 20]


def test_more_in_use_than_the_limit_leaves_nothing(groups):
    assert groups(V2, {"memory.max": 10, "memory.current": 12}) == [0]


@pytest.mark.parametrize("own", ["", "0::/\n", "3:cpuset:/\n"])
def test_no_limit_is_none(groups, own):
    assert groups(own, {"memory.max": "max", "memory.current": 5}) == []


def test_a_system_without_control_groups_has_none(tmp_path):
    assert memory.cgroup_bytes(tmp_path, tmp_path / "absent") == []


def test_the_least_of_system_and_groups_is_available(monkeypatch):
    monkeypatch.setattr(memory, "cgroup_bytes", lambda: [7 * MiB, 3 * MiB])
    assert memory.available_bytes("cpu") == 3 * MiB
    monkeypatch.setattr(memory, "cgroup_bytes", lambda: [2**62])
    assert memory.available_bytes("cpu") < 2**62


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_say_that_memory_did_not_suffice(error, expected):
    assert memory.is_out_of_memory(error) == expected


def test_after_memory_ran_out_batches_are_half_as_large_down_to_the_smallest():
    error = MemoryError("no room")
    assert [memory.smaller_batch(error, n, "cpu") for n in (1000, 31, 17)] == [500, 16, 16]
    with pytest.raises(OutOfMemoryError, match=r"Memory ran out at 16 tokens per batch on cpu; .*\(no room\)"):
        memory.smaller_batch(error, 16, "cpu")
    with pytest.raises(ValueError, match="another"):
        memory.smaller_batch(ValueError("another"), 1000, "cpu")
