"""What audio files hold: the digest of their bytes, and what their headers say of it.

Digests are cached in `$HARNESS_HOME/cache`; a cached digest is trusted as long as size, times and inode of its file are
those that it was computed at. So an unchanged split of 12,000 files costs 12,000 looks at the file system, and no
reading.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.config import cache_folder, digest, file_digest
from harness.corpora.manifest import Utterance
from harness.database import CheckedDatabase
from harness.errors import AudioError, ManifestError
from harness.progress import ProgressCallback

#: Manifests of other tools round lengths to two decimals; a larger difference means another audio file.
SECONDS_TOLERANCE = 0.01
#: A file changed so recently (ns) may change once more without another time: clocks of file systems tick slowly.
_UNSETTLED_NS = 100_000_000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file holds.

    Attributes:
        sha256: of its bytes, in hexadecimal.
        sample_rate: in Hz; 0 where it is not readable as audio.
        seconds: length of the audio; 0 where it is not readable.
    """

    sha256: str
    sample_rate: int
    seconds: float


def read_header(path: Path) -> tuple[int, float]:
    """Sample rate (Hz) and length (seconds) from an audio file's header.

    Raises:
        AudioError: if the file is absent, no audio that libsndfile reads, or empty.
    """
    import soundfile  # 0.2 s, which `harness list` must not pay

    if not path.is_file():
        raise AudioError(f"There is no audio file {path}.")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} is not readable as audio: {error.error_string}") from None
    if info.frames < 1:
        raise AudioError(f"{path} holds no samples.")
    return int(info.samplerate), info.frames / info.samplerate


def check_header(utterance: Utterance, found: tuple[int, float], where: str) -> None:
    """Compares sample rate (Hz) and length (s) of an audio file with what its manifest line states.

    Raises:
        ManifestError: at `where`, if the rates differ, or the lengths by more than 10 ms.
    """
    sample_rate, seconds = found
    if sample_rate != utterance.sample_rate:
        raise ManifestError(
            f"{where}: '{utterance.id}' states {utterance.sample_rate} Hz, but {utterance.audio} has {sample_rate} Hz."
        )
    if abs(seconds - utterance.seconds) > SECONDS_TOLERANCE:
        raise ManifestError(
            f"{where}: '{utterance.id}' states {utterance.seconds} s, but {utterance.audio} lasts {seconds:.3f} s; "
            "is it another recording?"
        )


def check_inside(root: Path, utterances: Sequence[Utterance], where: str) -> None:
    """Makes sure that no audio path leaves the corpus root, by a symbolic link either.

    Raises:
        ManifestError: at `where`, naming the first that does.
    """
    inside = Path(os.path.realpath(root))
    folders: dict[PurePosixPath, bool] = {}
    for utterance in utterances:
        audio = PurePosixPath(utterance.audio)
        if audio.parent not in folders:
            folders[audio.parent] = Path(os.path.realpath(root / audio.parent)).is_relative_to(inside)
        path = root / audio
        if folders[audio.parent] and not (
            path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside)
        ):
            continue
        raise ManifestError(
            f"{where}: the audio of '{utterance.id}', {utterance.audio}, leads out of the corpus root {root} by a "
            "symbolic link. Copy the audio there, or name the folder that holds it as the root."
        )


def split_digest(
    listing: str, root: Path, utterances: Sequence[Utterance], where: str, *, progress: ProgressCallback | None = None
) -> str:
    """Digest of a split: what lists it, and the bytes of each audio file; of the paths nothing.

    A file that is absent counts as such: text alone can be read without it.

    Args:
        listing: digest of the manifest.
        root: the folder that audio paths are relative to.
        utterances: of the split.
        where: names the split in messages.
        progress: called with the number of files hashed, where any must be.

    Raises:
        ManifestError: if a file differs from its line in sample rate or length, is not audio, or lies outside `root`.
    """
    check_inside(root, utterances, where)
    paths = [root / u.audio for u in utterances]
    found = read_contents(paths, progress=progress)
    for utterance, path in zip(utterances, paths, strict=True):
        if content := found.get(path):
            if not content.sample_rate:
                raise ManifestError(f"{where}: '{utterance.id}': {path} is not readable as audio.")
            check_header(utterance, (content.sample_rate, content.seconds), where)
    return digest({"listing": listing, "audio": [found[p].sha256 if p in found else None for p in paths]})


def read_contents(paths: Sequence[Path], *, progress: ProgressCallback | None = None) -> dict[Path, FileContent]:
    """The content of every file that is there, hashed where no cached digest can be trusted."""
    stamps = _stamps(paths)
    cached = _cached(stamps)
    known = {path: content for path, (stamp, content) in cached.items() if stamp == stamps[path]}
    return known | _hash([path for path in stamps if path not in known], stamps, progress)


def read_contents_anew(
    paths: Sequence[Path], *, progress: ProgressCallback | None = None
) -> tuple[dict[Path, FileContent], list[Path]]:
    """The content of every file that is there, all of them hashed, and those that differ from the cached digest."""
    stamps = _stamps(paths)
    cached = _cached(stamps)
    found = _hash(list(stamps), stamps, progress)
    return found, [path for path, (_, content) in cached.items() if content.sha256 != found[path].sha256]


def _stamps(paths: Sequence[Path]) -> dict[Path, str]:
    """Size, times and inode of each file that is there: what changes with a file's bytes."""
    stamps = {}
    for path in dict.fromkeys(paths):
        try:
            stat = path.stat()
        except OSError:
            continue
        stamps[path] = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    return stamps


def _database() -> CheckedDatabase:
    return CheckedDatabase(cache_folder() / "content.sqlite3", what="cache of audio digests")


def _cached(stamps: Mapping[Path, str]) -> dict[Path, tuple[str, FileContent]]:
    """Kept digests, with the stamp that each was computed at."""
    keys = {str(path.absolute()): path for path in stamps}
    found = {keys[key]: json.loads(value) for key, value in _database().get(keys).items()}
    return {path: (stamp, FileContent(*content)) for path, (stamp, *content) in found.items()}


def _hash(
    paths: Sequence[Path], stamps: Mapping[Path, str], progress: ProgressCallback | None
) -> dict[Path, FileContent]:
    """Contents computed now, and cached."""
    found: dict[Path, FileContent] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _BATCH):
            some = paths[start : start + _BATCH]
            fresh = dict(zip(some, pool.map(_content, some), strict=True))
            settled = time.time_ns() - _UNSETTLED_NS
            _database().put(
                {
                    str(path.absolute()): json.dumps([stamps[path], c.sha256, c.sample_rate, c.seconds]).encode()
                    for path, c in fresh.items()
                    if max(map(int, stamps[path].split()[1:3])) < settled
                }
            )
            found |= fresh
            if progress:
                progress("audio digests", len(found), len(paths))
    return found


def _content(path: Path) -> FileContent:
    try:
        sha256 = file_digest(path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return FileContent(sha256, *read_header(path))
    except AudioError:
        return FileContent(sha256, 0, 0.0)
