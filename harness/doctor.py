"""Checks of an installation, each with its remedy; the command line prints them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, packages_distributions
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.config import home

if TYPE_CHECKING:
    import torch

PACKAGE = "sutlm-harness"
REINSTALL = "Reinstall: pip install --force-reinstall {}"

#: The demo corpus, the caches and a small checkpoint fit in this; real corpora need far more.
MIN_FREE_GIB = 2.0
GIB = 1 << 30

#: Where a tracking URI names no port.
PORTS = {"http": 80, "https": 443, "mssql": 1433, "mysql": 3306, "postgresql": 5432}

#: torch.cuda finds no device without it; the file is Linux's.
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found and, where it is not as it should be, what to do about it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class Fault(Exception):
    """What a probe raises when it knows better than its default what to do."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


@dataclass(frozen=True)
class _Probe:
    """`run` returns what it found, or raises; `remedy` is for what it raises."""

    name: str
    run: Callable[[], str]
    remedy: str


def checks(*, results: Path = Path("results")) -> list[Check]:
    """Every check of this installation, in the order to mend them; one that fails stops none of the others.

    Args:
        results: the folder that runs will write to.
    """
    return [_run(probe) for probe in _probes(results)]


def _run(probe: _Probe) -> Check:
    try:
        detail = probe.run()
    except Fault as fault:
        return Check(probe.name, ok=False, detail=str(fault), remedy=fault.remedy)
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything, and all of it is the finding
        return Check(probe.name, ok=False, detail=f"{type(error).__name__}: {error}", remedy=probe.remedy)
    return Check(probe.name, ok=True, detail=detail)


def _probes(results: Path) -> tuple[_Probe, ...]:
    elsewhere = "Make the folder writable, or {} (now {})."
    state_remedy = elsewhere.format("set HARNESS_HOME to another one", home())
    return (
        _Probe("python", _python, "Install a Python that fits, then the harness in an environment of it."),
        _Probe("packages", _packages, f"Install: pip install {PACKAGE}"),
        _Probe("shadowing", _shadowing, REINSTALL.format(PACKAGE)),
        _Probe("torch and torchaudio", _torch_pair, "Install both: pip install torch torchaudio"),
        _Probe("torchaudio", _torchaudio, REINSTALL.format("torch torchaudio")),
        _Probe("audio files", _audio_files, REINSTALL.format("soundfile")),
        _Probe("espeak", _espeak, REINSTALL.format("espeakng-loader")),
        _Probe("state folder", lambda: _writable(home()), state_remedy),
        _Probe("results folder", lambda: _writable(results), elsewhere.format("pass --output", results.absolute())),
        _Probe("disk", lambda: _disk(home()), "Set HARNESS_HOME to a folder that exists on a disk with room."),
        _Probe("mlflow store", _mlflow_store, "Check tracking.uri in mlflow.yaml, and that its server is up."),
        _Probe("threads", _threads, REINSTALL.format("torch")),
        _Probe("cuda", _cuda, "Check the driver with nvidia-smi; CUDA_VISIBLE_DEVICES='' runs on the CPU."),
    )


def _python() -> str:
    from packaging.specifiers import SpecifierSet

    found = ".".join(map(str, sys.version_info[:3]))
    wanted = distribution(PACKAGE).metadata["Requires-Python"]
    if not SpecifierSet(wanted).contains(found):
        raise Fault(f"Python {found}, but the harness needs {wanted}", "Make an environment with another Python.")
    return f"{found} ({sys.executable})"


def _packages() -> str:
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in distribution(PACKAGE).requires or []]
    core = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [f"{found} where {r} is asked for" for r in core if (found := _mismatch(r.name, str(r.specifier)))]
    if wrong:
        raise Fault("; ".join(wrong), f"Install what is asked for: pip install --upgrade {PACKAGE}")
    return f"all {len(core)} direct dependencies are of the versions asked for"


def _mismatch(name: str, specifier: str) -> str:
    """What is installed under `name` if it does not fit, else the empty string."""
    from packaging.specifiers import SpecifierSet

    try:
        found = installed_version(name)
    except PackageNotFoundError:
        return f"no {name}"
    return "" if SpecifierSet(specifier).contains(found, prereleases=True) else f"{name} {found}"


def _shadowing() -> str:
    folder = Path(__file__).resolve().parent
    roots = {_root(d) for d in distributions(name=PACKAGE)}
    if folder.parent not in roots:
        where = ", ".join(str(root) for root in sorted(roots)) or "nowhere"
        raise Fault(
            f"harness is imported from {folder}, but pip installed it in {where}",
            "Unset PYTHONPATH, or leave the folder that holds the other copy.",
        )
    for name in ("tasks", "models", "sweeps"):
        _check_folder(name, folder)
    if others := set(packages_distributions().get("harness", [])) - {PACKAGE}:
        names = ", ".join(sorted(others))
        raise Fault(f"{names} also installs a package called harness", f"Uninstall it: pip uninstall {names}")
    _check_current_folder(folder)
    return f"harness comes from {folder}"


def _root(dist: Distribution) -> Path:
    """The folder that holds `harness/`: the source tree of an editable installation, else site-packages."""
    direct = json.loads(dist.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(direct["url"]).path)).resolve()
    return Path(str(dist.locate_file(""))).resolve()


def _check_folder(name: str, folder: Path) -> None:
    """Refuses a `harness.<name>` that lies neither in `harness/` (a wheel) nor beside it (a source tree)."""
    spec = importlib.util.find_spec(f"harness.{name}")
    if spec is None or not spec.origin:
        raise Fault(
            f"harness is imported from {folder}, which has no harness.{name}: a source tree that is not installed",
            f"Work in another folder, or install the tree: pip install -e {folder.parent}",
        )
    found = Path(spec.origin).resolve().parent
    if found not in (folder / name, folder.parent / name):
        raise Fault(f"harness.{name} is imported from {found}", "Remove that folder from PYTHONPATH.")


def _check_current_folder(folder: Path) -> None:
    for other in (Path("harness"), Path("harness.py")):
        if other.exists() and other.resolve() != folder and (other.suffix or (other / "__init__.py").exists()):
            raise Fault(
                f"the current folder has a {other} of its own, which `python -m harness` would run",
                "Work in another folder, rename it, or always call `harness` instead of `python -m harness`.",
            )


def _torch_pair() -> str:
    torch, torchaudio = installed_version("torch"), installed_version("torchaudio")
    release = torch.split("+")[0]
    if release != torchaudio.split("+")[0]:
        raise Fault(
            f"torch {torch} with torchaudio {torchaudio}, which is built against another torch",
            f"Install the pair: pip install torch=={release} torchaudio=={release}",
        )
    return f"torch {torch}, torchaudio {torchaudio}"


def _torchaudio() -> str:
    """Runs a resampler, MFCCs and, because it is written in C++, the forced aligner."""
    import torch
    import torchaudio

    wave = torch.sin(torch.arange(16_000) * 0.1).unsqueeze(0)
    half = torchaudio.functional.resample(wave, 16_000, 8_000)
    mel = {"n_fft": 400, "hop_length": 160, "n_mels": 40}
    mfcc = torchaudio.transforms.MFCC(16_000, n_mfcc=13, melkwargs=mel)(wave)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, _ = torchaudio.functional.forced_align(_sure_of(0, 1, 1, 0, 2), torch.tensor([[1, 2]], dtype=torch.int32))
    if half.shape[1] != 8_000 or not mfcc.isfinite().all() or path.tolist() != [[0, 1, 1, 0, 2]]:
        raise Fault("resampling, MFCC or alignment gives wrong values", REINSTALL.format("torch torchaudio"))
    return "its C++ extension loads; resampling, MFCC and forced alignment run"


def _sure_of(*labels: int) -> torch.Tensor:
    """Log-probabilities `(1, time, class)` of a classifier that is nearly sure of one label per frame."""
    import torch

    return (torch.nn.functional.one_hot(torch.tensor([labels])) * 10.0).log_softmax(-1)


def _audio_files() -> str:
    """Writes and reads a second of a tone in every format that a corpus may have."""
    import numpy as np
    import soundfile

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "ogg"):
            path = Path(folder) / f"tone.{suffix}"
            soundfile.write(path, tone, 16_000)
            read, rate = soundfile.read(path)
            if rate != 16_000 or len(read) != len(tone) or np.abs(read - tone).max() > 0.1:
                raise Fault(f"a {suffix.upper()} file reads back as another sound", REINSTALL.format("soundfile"))
    return f"WAV, FLAC and OGG are written and read ({soundfile.__libsndfile_version__})"


def _espeak() -> str:
    from harness.corpora._espeak import synthesize

    _, spoken = synthesize("hello", voice="en-us", rate=175, pitch=50)
    return f"eSpeak NG says 'hello' in {spoken.num_samples / spoken.sample_rate:.1f} s"


def _writable(folder: Path) -> str:
    """Writes into `folder`, or into the nearest folder above it that exists, and leaves nothing behind."""
    with tempfile.TemporaryDirectory(dir=_existing(folder)) as trial:
        (Path(trial) / "trial").write_bytes(b"\0" * 4096)
    return f"{folder} can be written to" if folder.exists() else f"{folder} can be made"


def _existing(folder: Path) -> Path:
    """`folder` or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(_existing(folder)).free / GIB
    if free < MIN_FREE_GIB:
        raise Fault(
            f"{free:.1f} GiB free for {folder}; the demo alone needs {MIN_FREE_GIB:.0f}",
            "Free some, or set HARNESS_HOME to a folder on another disk.",
        )
    return f"{free:.1f} GiB free for {folder}"


def _mlflow_store() -> str:
    """Connects to the port of a server or database, or writes beside a SQLite file; MLflow itself is not called."""
    from harness.tracking.config import load_tracking_config

    uri = load_tracking_config().uri
    parts = urlsplit(uri)
    if parts.hostname:
        port = parts.port or PORTS[parts.scheme.partition("+")[0]]
        socket.create_connection((parts.hostname, port), timeout=5).close()
        return f"{parts.hostname}:{port} answers"
    _, local, path = uri.partition(":///")
    return _writable(Path(path).parent) if local else f"{uri.partition(':')[0]} (not looked at)"


def _threads() -> str:
    import torch

    threads, cores = torch.get_num_threads(), _num_cores()
    if threads > cores:
        raise Fault(
            f"torch uses {threads} threads on {cores} cores, which is slower than {cores}",
            f"Set OMP_NUM_THREADS={cores}.",
        )
    return f"torch uses {threads} of {cores} cores"


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda() -> str:
    """Computes on every device: one that is listed may still be too old for this build of torch."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available and NVIDIA_DRIVER.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        reason = "; ".join(str(warning.message) for warning in said) or "torch does not say why"
        raise Fault(
            f"there is an NVIDIA driver, but torch finds no device: {reason}",
            f"Install a driver for CUDA {torch.version.cuda}, or check CUDA_VISIBLE_DEVICES.",
        )
    return ", ".join(map(_device, range(torch.cuda.device_count() if available else 0))) or "no device; runs on the CPU"


def _device(index: int) -> str:
    import torch

    if torch.ones(8, device=f"cuda:{index}").sum().item() != 8.0:
        raise Fault(f"cuda:{index} computes wrong sums", "Leave it out with CUDA_VISIBLE_DEVICES.")
    properties = torch.cuda.get_device_properties(index)
    return f"cuda:{index} {properties.name} ({properties.total_memory / GIB:.0f} GiB)"
