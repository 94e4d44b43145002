"""Opening a corpus by name: its prepared splits under `$HARNESS_HOME/corpora`, or any manifest by path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from harness.config import digest, file_digest, home
from harness.corpora.content import split_digest
from harness.corpora.manifest import Utterance, read_manifest
from harness.errors import CorpusError
from harness.files import lock_of, write_json
from harness.progress import ProgressCallback
from harness.registry import Registry


@dataclass(frozen=True)
class CorpusInfo:
    """What `harness list corpora` and the docs show of a corpus."""

    name: str
    description: str
    splits: tuple[str, ...]
    license: str
    source: str
    #: Goes up when the adapter would write other manifests; manifests of an older version are not read.
    version: int = 1
    #: The split on which tasks are run by default.
    default_split: str = "test"


@dataclass(frozen=True)
class Prepared:
    """What an adapter prepared: the folder that audio paths are relative to, and its splits.

    `notes` has an entry for every split written: remarks for its user, such as "80 of 2939 utterances".
    """

    root: Path
    notes: Mapping[str, tuple[str, ...]]


class CorpusAdapter(Protocol):
    """One file of `harness/corpora/`, exported as `CORPUS`."""

    info: CorpusInfo
    #: True where `prepare` makes the data itself and needs no local copy.
    generated: bool

    def prepare(self, root: Path | None, out: Path, splits: Sequence[str]) -> Path | Prepared:
        """Writes `out/<split>.jsonl` for each split (all that `root` holds when none are named).

        Returns what was prepared; or, if every named split (every split if none is named) was written and there
        are no notes, only the folder that audio paths are relative to.

        Raises:
            CorpusError: if `root` is not laid out as the official distribution, saying what to download.
        """
        ...


@dataclass(frozen=True)
class Corpus:
    """One split of a corpus, read: `root` is the folder of its audio; `listing` the digest of what lists it."""

    name: str
    split: str
    root: Path
    listing: str
    utterances: tuple[Utterance, ...]

    @cached_property
    def digest(self) -> str:
        """Changes with the content of the split: its manifest, its units, its audio.

        Raises:
            ManifestError: if an audio file is not what its line says, or lies outside of the root.
        """
        return self.read_audio()

    def read_audio(self, progress: ProgressCallback | None = None) -> str:
        """The digest, computed now; `progress` is called with the number of audio files that have been hashed.

        Raises:
            ManifestError: as `digest`.
        """
        where = f"{self.name}:{self.split}"
        return split_digest(self.listing, self.root, self.utterances, where, progress=progress)

    def audio_path(self, utterance: Utterance) -> Path:
        """The absolute path of an utterance's audio."""
        return self.root / utterance.audio


@dataclass(frozen=True)
class PreparedSplit:
    """A split on disk: its manifest, the folder of its audio, and what was noted when it was prepared."""

    manifest: Path
    root: Path
    notes: tuple[str, ...] = field(default=())
    #: The version of the adapter that prepared it.
    version: int = 1


def corpus_registry() -> Registry[CorpusAdapter]:
    """Built-in corpora by file name, third-party ones by the entry point group `harness.corpora`."""
    return Registry(
        kind="corpus",
        package="harness.corpora",
        attribute="CORPUS",
        group="harness.corpora",
        not_members=("alignments", "content", "corpus", "distribution", "manifest", "show", "slue", "slue_labels"),
        hyphens=True,
    )


def prepared_folder(name: str) -> Path:
    """The folder of the manifests of a prepared corpus."""
    return home() / "corpora" / name


def prepared_splits(name: str) -> dict[str, PreparedSplit]:
    """The splits of a corpus that are on disk, by name, with the notes made when each was prepared."""
    return splits_in(prepared_folder(name))


def splits_in(folder: Path) -> dict[str, PreparedSplit]:
    """The splits prepared in a folder; none where it holds no `corpus.json`.

    A manifest that `corpus.json` does not list is from an interrupted preparation and does not count.
    """
    facts = _facts(folder)
    found = {
        split: PreparedSplit(
            folder / f"{split}.jsonl", folder / fact["root"], tuple(fact["notes"]), version=fact["version"]
        )
        for split, fact in facts.items()
    }
    return {split: prepared for split, prepared in found.items() if prepared.manifest.is_file()}


def prepare_corpus(name: str, root: Path | None, splits: Sequence[str] = ()) -> Path:
    """Prepares splits of a corpus (all that `root` holds when none are named); returns the manifests' folder.

    Raises:
        CorpusError: if the corpus has no such split, or `root` does not hold it.
        ManifestError: if the adapter wrote an invalid manifest.
    """
    adapter = corpus_registry().load(name)
    for split in splits:
        _check_split(adapter.info, split)
    folder = prepared_folder(_plain_name(name, adapter))
    with lock_of(folder / "corpus.json"):
        _prepare(adapter, root, folder, splits)
    return folder


def open_corpus(name: str | Path, split: str | None = None) -> Corpus:
    """A split by corpus name, or a manifest by path (`name` ends in `.jsonl`; audio is relative to its folder).

    A generated corpus (`demo`) makes the split on first use. Without `split`, the corpus's own default is opened:
    `test`, but LibriSpeech's `test-clean`.

    Raises:
        CorpusError: if the corpus is not prepared or has no such split.
        ManifestError: if the manifest is invalid.
    """
    name = str(name)
    if name.endswith(".jsonl"):
        return _open_file(Path(name), split or "test")
    adapter = corpus_registry().load(name)
    split = split or adapter.info.default_split
    _check_split(adapter.info, split)
    plain_name = _plain_name(name, adapter)
    prepared = prepared_splits(plain_name).get(split)
    if prepared is None or prepared.version != adapter.info.version:
        prepared = _generate(adapter, prepared_folder(plain_name), split, prepared)
    if not prepared.root.is_dir():
        raise CorpusError(
            f"The audio of corpus '{name}' ({split}) is no longer in {prepared.root}. Run: "
            f"harness data prepare {name}{'' if adapter.generated else ' --root DIR'}"
        )
    utterances = tuple(read_manifest(prepared.manifest))
    if foreign := [u for u in utterances if u.split != split]:
        raise CorpusError(
            f"{prepared.manifest} holds '{foreign[0].id}' of split '{foreign[0].split}'; a manifest has one split."
        )
    return Corpus(plain_name, split, prepared.root, listing_digest(prepared.manifest), utterances)


def listing_digest(manifest: Path) -> str:
    """Digest of what lists a split: its manifest, and the units beside it where there are any."""
    files = {
        "manifest": manifest,
        "units": manifest.with_suffix(".units.jsonl"),
        "unit system": manifest.with_name("units.json"),
    }
    return digest({part: file_digest(path) for part, path in files.items() if path.is_file()})


def _open_file(path: Path, split: str) -> Corpus:
    found = read_manifest(path)
    utterances = tuple(u for u in found if u.split == split)
    if not utterances:
        splits = ", ".join(sorted({u.split for u in found}))
        raise CorpusError(f"{path} holds no utterance of split '{split}'; it holds: {splits}. Choose one with --split.")
    return Corpus(path.stem, split, path.parent, listing_digest(path), utterances)


def _generate(adapter: CorpusAdapter, folder: Path, split: str, older: PreparedSplit | None) -> PreparedSplit:
    name = folder.name
    if not adapter.generated:
        why = f"is not prepared (no {folder / split}.jsonl)"
        if older is not None:
            why = f"was prepared by version {older.version} of its adapter; this is version {adapter.info.version}"
        raise CorpusError(f"Split '{split}' of corpus '{name}' {why}. Run: harness data prepare {name} --root DIR")
    with lock_of(folder / "corpus.json"):
        # Another process may have made it while this one waited.
        found = splits_in(folder).get(split)
        if found is None or found.version != adapter.info.version:
            _prepare(adapter, None, folder, (split,))
    return splits_in(folder)[split]


def _prepare(adapter: CorpusAdapter, root: Path | None, folder: Path, splits: Sequence[str]) -> None:
    made = adapter.prepare(root, folder, tuple(splits))
    if isinstance(made, Path):
        made = Prepared(made, dict.fromkeys(splits or adapter.info.splits, ()))
    for split in made.notes:
        read_manifest(folder / f"{split}.jsonl")  # refused now rather than at the first run
    audio = made.root.resolve()
    # Audio beside the manifests is named relative to them, so that the folder can be moved.
    root_path = audio.relative_to(folder.resolve()) if audio.is_relative_to(folder.resolve()) else audio
    facts = _facts(folder)
    for split, notes in made.notes.items():
        facts[split] = {"root": root_path.as_posix(), "notes": list(notes), "version": adapter.info.version}
    write_json(folder / "corpus.json", {"name": folder.name, "splits": facts})


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "corpus.json"
    if not path.is_file():
        return {}
    try:
        facts = dict(json.loads(path.read_text("utf-8"))["splits"])
        return {
            split: {"root": str(fact["root"]), "notes": list(fact["notes"]), "version": int(fact.get("version", 1))}
            for split, fact in facts.items()
        }
    except (ValueError, KeyError, TypeError):
        raise CorpusError(f"{path} is damaged; delete it and prepare the corpus again.") from None


def _plain_name(name: str, adapter: CorpusAdapter) -> str:
    # An adapter given as path/to/file.py:CORPUS goes by the name that it gives itself.
    return adapter.info.name if ".py:" in name else name


def _check_split(info: CorpusInfo, split: str) -> None:
    if split not in info.splits:
        raise CorpusError(
            f"Corpus '{info.name}' has no split '{split}'; it has: {', '.join(info.splits)}. Choose one with --split."
        )
