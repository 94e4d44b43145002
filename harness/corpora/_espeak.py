"""Speech by eSpeak NG with exact word times, in separate processes.

Run as `python -m harness.corpora._espeak`, it reads jobs from standard input and answers on standard output, one
line of JSON each. A process of its own because eSpeak is not thread-safe, because another user of the library in
the caller's process would change its state, and because `multiprocessing` would re-run a caller's unguarded script.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import CorpusError

# From speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_RATE, _PITCH = 1, 3
_EVENT_END_OF_LIST, _EVENT_WORD = 0, 1

#: Jobs below which another process costs more than it saves.
_JOBS_PER_WORKER = 12


@dataclass(frozen=True, slots=True)
class SpeechJob:
    """One utterance to speak: `rate` in words per minute, `pitch` 0-99, `path` of the WAV to write."""

    text: str
    voice: str
    rate: int
    pitch: int
    path: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was spoken: length in samples, sampling rate in Hz, start and end of each written word in seconds."""

    num_samples: int
    sample_rate: int
    words: tuple[tuple[float, float], ...]


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def locate() -> tuple[Path, Path]:
    """The eSpeak NG library and its data folder.

    Raises:
        CorpusError: if `espeakng-loader` or the library it carries is absent.
    """
    try:
        loader = importlib.import_module("espeakng_loader")
        library, data = Path(loader.get_library_path()), Path(loader.get_data_path())
    except (ImportError, RuntimeError) as error:
        raise CorpusError(
            f"The demo corpus is spoken by eSpeak NG, which is not there ({error}). Run: pip install espeakng-loader"
        ) from None
    if not library.is_file():
        raise CorpusError(
            f"espeakng-loader carries no library for this platform (no {library}). "
            "Run: pip install --force-reinstall espeakng-loader"
        )
    return library, data


def check_variant(voice: str, data: Path) -> None:
    """Refuses a voice such as `en-us+f3` whose variant has no file; eSpeak would silently speak the plain voice.

    Raises:
        CorpusError: naming the variant and where it was looked for.
    """
    _, plus, variant = voice.partition("+")
    if plus and not (data / "voices" / "!v" / variant).is_file():
        raise CorpusError(f"eSpeak NG has no variant '{variant}' (voice '{voice}'); see {data / 'voices' / '!v'}.")


def synthesize(text: str, *, voice: str, rate: int, pitch: int) -> tuple[npt.NDArray[np.int16], Spoken]:
    """The samples of one utterance and its word times; not thread-safe.

    The library is loaded again for each utterance and its noise is seeded: eSpeak keeps wave phases and seeds its noise
    from the clock, so that otherwise an utterance's samples would depend on those spoken before it and on the time.

    Raises:
        CorpusError: if eSpeak NG does not know the voice or fails.
    """
    library, data = locate()
    check_variant(voice, data)
    lib = ctypes.CDLL(str(library))
    try:
        return _speak(lib, data, text, voice=voice, rate=rate, pitch=pitch)
    finally:
        lib.espeak_Terminate()
        _unload(lib)


def _unload(lib: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        free = ctypes.WinDLL("kernel32").FreeLibrary
        free.argtypes = [ctypes.c_void_p]
        free(lib._handle)
    else:
        close = ctypes.CDLL(None).dlclose
        close.argtypes = [ctypes.c_void_p]
        close(lib._handle)


def _seed_noise(lib: ctypes.CDLL) -> None:
    """Seeds both generators that releases of eSpeak draw noise from; it seeds its own from the clock."""
    (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).srand(1)
    if hasattr(lib, "espeak_ng_SetRandSeed"):
        lib.espeak_ng_SetRandSeed(ctypes.c_long(1))


def _speak(
    lib: ctypes.CDLL, data: Path, text: str, *, voice: str, rate: int, pitch: int
) -> tuple[npt.NDArray[np.int16], Spoken]:
    chunks: list[npt.NDArray[np.int16]] = []
    events: list[tuple[int, int]] = []

    def collect(wave: ctypes._Pointer[ctypes.c_short], count: int, found: ctypes._Pointer[_Event]) -> int:
        if wave and count > 0:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).astype(np.int16))
        i = 0
        while found[i].type != _EVENT_END_OF_LIST:
            if found[i].type == _EVENT_WORD:
                events.append((found[i].text_position - 1, found[i].audio_position))
            i += 1
        return 0

    sample_rate = lib.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data).encode(), 0)
    if sample_rate <= 0:
        raise CorpusError(f"eSpeak NG does not start with the data in {data} (code {sample_rate}).")
    callback = _Callback(collect)
    lib.espeak_SetSynthCallback(callback)
    if code := lib.espeak_SetVoiceByName(voice.encode()):
        raise CorpusError(f"eSpeak NG has no voice '{voice}' (code {code}); see {data / 'lang'}.")
    lib.espeak_SetParameter(_RATE, rate, 0)
    lib.espeak_SetParameter(_PITCH, pitch, 0)
    _seed_noise(lib)
    raw = text.encode("ascii")
    code = lib.espeak_Synth(raw, ctypes.c_size_t(len(raw) + 1), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    if code or not chunks:
        raise CorpusError(f"eSpeak NG could not speak '{text}' with voice '{voice}' (code {code}).")
    samples = np.concatenate(chunks)
    times = word_times(text, events, _speech_end(samples, sample_rate))
    return samples, Spoken(len(samples), sample_rate, times)


def _speech_end(samples: npt.NDArray[np.int16], sample_rate: int) -> float:
    """The time after the last sample louder than 1 % of the peak, in seconds."""
    size = np.abs(samples.astype(np.int32))
    return float(np.flatnonzero(size > 0.01 * size.max())[-1] + 1) / sample_rate


def word_times(text: str, events: Iterable[tuple[int, int]], end_s: float) -> tuple[tuple[float, float], ...]:
    """Start and end of each word of `text.split()`, in seconds to the millisecond.

    eSpeak speaks some neighbours ("of a") as one word with one event; they share its time by their letters.

    Args:
        text: words with single spaces between them.
        events: position in `text` and time in milliseconds of each word event.
        end_s: where the speech ends.
    """
    words = text.split()
    offsets = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    starts: dict[int, float] = {}
    for position, time_ms in events:
        starts.setdefault(int(np.searchsorted(offsets, position, side="right")) - 1, time_ms / 1000)
    # eSpeak reports no event before its first sound; speech starts with the first word.
    starts.setdefault(0, 0.0)
    heads = sorted(starts)
    edges: list[float] = []
    for head, following in zip(heads, [*heads[1:], len(words)], strict=True):
        stop = starts.get(following, end_s)
        letters = np.cumsum([0, *(len(word) for word in words[head:following])])
        edges += [starts[head] + (stop - starts[head]) * float(part) for part in letters[:-1] / letters[-1]]
    edges = [round(edge, 3) for edge in [*edges, end_s]]
    return tuple(pairwise(edges))


def speak(jobs: Sequence[SpeechJob], *, workers: int | None = None) -> list[Spoken]:
    """Writes the WAV of each job, in parallel; the answers stand in the order of the jobs.

    Raises:
        CorpusError: if eSpeak NG is absent or a worker fails, with its message.
    """
    locate()
    number = workers or min(os.cpu_count() or 1, -(-len(jobs) // _JOBS_PER_WORKER))
    shards = [jobs[i::number] for i in range(number)]
    with ThreadPoolExecutor(number) as pool:
        answers = list(pool.map(_run_worker, shards))
    return [answers[i % number][i // number] for i in range(len(jobs))]


def _run_worker(jobs: Sequence[SpeechJob]) -> list[Spoken]:
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness.corpora._espeak"],
        input="".join(json.dumps(asdict(job)) + "\n" for job in jobs),
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != len(jobs):
        raise CorpusError(
            f"A process speaking the demo corpus ended with code {done.returncode} after {len(lines)} of {len(jobs)} "
            f"utterances: {done.stderr.strip()[-500:]}"
        )
    rows = (json.loads(line) for line in lines)
    return [Spoken(row[0], row[1], tuple((start, end) for start, end in row[2])) for row in rows]


def _serve() -> None:
    """Answers each job on standard input with `[num_samples, sample_rate, words]`."""
    import soundfile

    for line in sys.stdin:
        job = SpeechJob(**json.loads(line))
        samples, spoken = synthesize(job.text, voice=job.voice, rate=job.rate, pitch=job.pitch)
        soundfile.write(job.path, samples, spoken.sample_rate, subtype="PCM_16", format="WAV")
        sys.stdout.write(json.dumps([spoken.num_samples, spoken.sample_rate, spoken.words]) + "\n")


if __name__ == "__main__":
    _serve()
