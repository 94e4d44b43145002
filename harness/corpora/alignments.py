"""Forced alignments as aligners write them: TextGrid, CTM, and the LibriSpeech-Alignments lists."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from harness.corpora.manifest import TIME_GRACE_S, Word
from harness.errors import CorpusError

T = TypeVar("T")

#: What aligners write between words: nothing, Kaldi's and MFA's silences, and MFA's "spoken noise".
SILENCES = frozenset({"", "sil", "sp", "spn", "<eps>"})
#: What aligners write for a word that they do not know: the times are its own, only its spelling is lost.
UNKNOWN = "<unk>"
#: Folders of alignments beneath a corpus root, in lower case.
FOLDERS = frozenset({"alignments", "alignment", "textgrid", "textgrids", "librispeech_alignments"})


def read_textgrid(path: Path, *, tier: str = "words") -> list[Word]:
    """The words of a Praat TextGrid, long or short format, silences dropped.

    Both formats are one stream of quoted strings and free-standing numbers in the same order; everything else in
    the long format is decoration (Praat manual, "TextGrid file formats"). A tier called `speaker - words`, as
    MFA writes it, counts as `words`.

    Raises:
        CorpusError: naming file and line, if the file is not a TextGrid or has not exactly one such tier.
    """
    tokens = _Tokens(path)
    if not tokens.text().startswith("ooTextFile") or tokens.text() != "TextGrid":
        raise CorpusError(f'{path}:1: not a TextGrid (it does not begin with "ooTextFile" and "TextGrid").')
    tokens.span()
    names: list[str] = []
    found: list[list[Word]] = []
    if tokens.flag() == "<exists>":
        for _ in range(tokens.count()):
            kind, name = tokens.text(), tokens.text()
            names.append(name)
            words = _read_tier(tokens, kind)
            if name.lower() == tier or name.lower().endswith(f"- {tier}"):
                found.append(words)
    if len(found) != 1:
        listing = ", ".join(f"'{n}'" for n in names) or "none"
        raise CorpusError(f"{tokens.where()}: {len(found)} tiers called '{tier}', expected one; tiers: {listing}.")
    return found[0]


def _read_tier(tokens: _Tokens, kind: str) -> list[Word]:
    tokens.span()
    if kind == "TextTier":  # points in time; no words
        for _ in range(tokens.count()):
            tokens.number()
            tokens.text()
        return []
    if kind != "IntervalTier":
        raise CorpusError(f"{tokens.where()}: '{kind}' is not a kind of tier (IntervalTier or TextTier).")
    words = []
    for _ in range(tokens.count()):
        start, end = tokens.span()
        label = tokens.text().strip()
        if label.lower() not in SILENCES:
            words.append(Word(label, start, end))
    return words


class _Tokens:
    """The strings, numbers and flags of a TextGrid, taken one by one in order."""

    # Strings first, so that nothing is sought inside them; numbers and flags stand free, between white space.
    _PATTERN = re.compile(
        r'"((?:[^"]|"")*)"|(?<!\S)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)|(?<!\S)(<\w+>)(?!\S)|(")'
    )
    _KINDS = ("text", "number", "flag", "quotation mark that is never closed")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = _decode(path)
        self._matches = self._PATTERN.finditer(self._source)
        self._position = 0

    def where(self) -> str:
        """File and line of the last token."""
        return f"{self._path}:{self._source.count(chr(10), 0, self._position) + 1}"

    def text(self) -> str:
        """The next token, a string."""
        return self._next(1).replace('""', '"')

    def number(self) -> float:
        """The next token, a number."""
        return float(self._next(2))

    def flag(self) -> str:
        """The next token, a flag such as `<exists>`."""
        return self._next(3)

    def count(self) -> int:
        """The next token, a whole number ≥ 0."""
        number = self._next(2)
        if not number.isdecimal():
            raise CorpusError(f"{self.where()}: expected a count, found '{number}'.")
        return int(number)

    def span(self) -> tuple[float, float]:
        """The next two tokens, a start and an end in seconds."""
        start, end = self.number(), self.number()
        if not 0 <= start <= end:
            raise CorpusError(f"{self.where()}: {start}-{end} s is not a span of time.")
        return start, end

    def _next(self, kind: int) -> str:
        match = next(self._matches, None)
        wanted = self._KINDS[kind - 1]
        if match is None:
            self._position = len(self._source)
            raise CorpusError(f"{self.where()}: the file ends where a {wanted} should follow.")
        self._position = match.start()
        if match.lastindex != kind:
            found = self._KINDS[(match.lastindex or 1) - 1]
            raise CorpusError(f"{self.where()}: expected a {wanted}, found a {found}: {match[0]}")
        return match[kind]


def _decode(path: Path) -> str:
    raw = path.read_bytes()
    # Praat writes UTF-16 as soon as a label is not ASCII.
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CorpusError(f"{path}:{line}: not {encoding} text ({error.reason}); save it as UTF-8.") from None


def read_ctm(path: Path) -> dict[str, list[Word]]:
    """Utterance id → words of a CTM file (`id channel start duration word [confidence]`), silences dropped.

    Raises:
        CorpusError: naming file and line of the first that does not fit.
    """
    found: dict[str, list[Word]] = {}
    for where, line in numbered_lines(path):
        if line.startswith(";;"):
            continue
        fields = line.split()
        times = [_number(f) for f in fields[2:4]]
        if len(fields) not in (5, 6) or times[0] is None or times[1] is None:
            raise CorpusError(f"{where}: expected 'id channel start duration word [confidence]', found '{line}'.")
        start, end = times[0], round(times[0] + times[1], 6)
        _check_times(start, end, where)
        words = found.setdefault(fields[0], [])
        if fields[4].lower() not in SILENCES:
            words.append(Word(fields[4], start, end))
    return found


def read_alignment_list(path: Path) -> dict[str, list[Word]]:
    """Utterance id → words of a `<chapter>.alignment.txt`, silences dropped.

    The format of CorentinJ/librispeech-alignments: `id ",GO,,DO," "0.490,0.890,1.270,1.380,1.490"`, the labels (an
    empty one is silence) and the time at which each ends.

    Raises:
        CorpusError: naming file and line of the first that does not fit.
    """
    found: dict[str, list[Word]] = {}
    for where, line in numbered_lines(path):
        match = re.fullmatch(r'(\S+) "([^"]*)" "([^"]*)"', line)
        labels, ends = (match[2].split(","), [_number(t) for t in match[3].split(",")]) if match else ([], [])
        if match is None or len(labels) != len(ends):
            raise CorpusError(
                f"{where}: expected 'id \"WORD,WORD\" \"end,end\"' with as many ends as words, found '{line}'."
            )
        if match[1] in found:
            raise CorpusError(f"{where}: the utterance '{match[1]}' occurs twice.")
        words, start = [], 0.0
        for label, end in zip(labels, ends, strict=True):
            if end is None:
                raise CorpusError(f"{where}: '{match[3]}' is not a list of times.")
            _check_times(start, end, where)
            if label.strip().lower() not in SILENCES:
                words.append(Word(label.strip(), start, end))
            start = end
        found[match[1]] = words
    return found


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """`file:line` and text of every line that is not blank, without the white space around it.

    Raises:
        CorpusError: naming file and line, if the file is not UTF-8.
    """
    # Not str.splitlines, which breaks lines at characters that editors and `wc` do not count.
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _check_times(start: float, end: float, where: str) -> None:
    if not 0 <= start <= end:
        raise CorpusError(f"{where}: {start}-{end} s is not a span of time.")


@dataclass(frozen=True)
class Alignments:
    """The word alignments found on disk; a TextGrid is read when its words are asked for.

    Where several kinds hold an utterance, its TextGrid goes before a CTM, and that before an alignment list.
    """

    textgrids: Mapping[str, Path] = field(default_factory=dict)
    lists: Mapping[str, Sequence[Word]] = field(default_factory=dict)

    def words(self, utterance: str) -> Sequence[Word] | None:
        """The words of an utterance, or None where no file holds it."""
        if utterance in self.textgrids:
            return read_textgrid(self.textgrids[utterance])
        return self.lists.get(utterance)


def alignment_folders(root: Path) -> list[Path]:
    """The folders beneath `root` that are named as alignments usually are."""
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower() in FOLDERS)


def find_alignments(folders: Iterable[Path]) -> Alignments:
    """Every `*.TextGrid`, `*.ctm` and `*.alignment.txt` beneath the folders.

    Raises:
        CorpusError: if two files of one kind hold the same utterance, or one is malformed.
    """
    files = list(dict.fromkeys(p for folder in folders for p in _walk(folder)))
    textgrids = _unique((p.stem, p, p) for p in files if p.suffix.lower() == ".textgrid")
    ctms = _unique((i, w, p) for p in files if p.suffix.lower() == ".ctm" for i, w in read_ctm(p).items())
    lists = _unique(
        (i, w, p) for p in files if p.name.endswith(".alignment.txt") for i, w in read_alignment_list(p).items()
    )
    return Alignments(textgrids, {**lists, **ctms})


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        # Suffixes first: a corpus folder holds hundreds of thousands of audio files.
        yield from (
            Path(parent, n) for n in sorted(names) if n.lower().endswith((".textgrid", ".ctm", ".alignment.txt"))
        )


def _unique(claims: Iterable[tuple[str, T, Path]]) -> dict[str, T]:
    found: dict[str, T] = {}
    places: dict[str, Path] = {}
    for utterance, value, path in claims:
        if utterance in found:
            raise CorpusError(
                f"Two alignments claim the utterance '{utterance}': {places[utterance]} and {path}. Remove one of them."
            )
        found[utterance], places[utterance] = value, path
    return found


def fit_words(
    aligned: Sequence[Word], text: str, *, seconds: float, normalize: Callable[[str], str]
) -> tuple[Word, ...] | None:
    """The aligned words spelled as in `text`, or None if they are not the words of `text`, in time order, in the audio.

    An `<unk>` is the word of `text` in its place.

    Args:
        aligned: words and times.
        text: the normalized transcript; its words are its parts between spaces.
        seconds: length of the audio; ends that outlast it by rounding are cut to it.
        normalize: what made `text` of the original transcript; applied to each aligned word too.
    """
    labeled = [(UNKNOWN if word.word == UNKNOWN else normalize(word.word), word) for word in aligned]
    spoken = [(label, word) for label, word in labeled if label]
    written = text.split()
    if len(spoken) != len(written):
        return None
    previous = 0.0
    for (label, word), spelled in zip(spoken, written, strict=True):
        if label not in (spelled, UNKNOWN):
            return None
        if word.start < previous - TIME_GRACE_S or word.end > seconds + TIME_GRACE_S:
            return None
        previous = word.end
    return tuple(
        Word(spelled, min(word.start, seconds), min(word.end, seconds))
        for (_, word), spelled in zip(spoken, written, strict=True)
    )
