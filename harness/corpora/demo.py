"""The embedded corpus: sentences written by this project's grammar, spoken by eSpeak NG, the same everywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from harness.corpora import _espeak, _grammar
from harness.corpora.corpus import CorpusInfo
from harness.corpora.manifest import Utterance, Word, read_manifest, write_manifest
from harness.errors import CorpusError, ManifestError

SEED = 20231015
#: Part of every id, hence of every digest; goes up with any change of grammar, voices or audio.
VERSION = 4

SIZES = {"train": 12000, "fine-tune": 1000, "dev": 200, "test": 200, "test_heldout_voice": 200}
#: eSpeak's voices and the rate at which each speaks, in words per minute.
TRAINING_VOICES = {"en-us": 160, "en-us+f2": 176, "en-us+m3": 168, "en-us+f4": 184}
HELDOUT_VOICES = {"en-us+m7": 172}

# Six speakers of a voice, by eSpeak's pitch (0-99). They share its rate: word durations follow the rate, and units
# over durations are what a small model has to learn most examples of.
_PITCHES = (40, 44, 48, 52, 56, 60)


@dataclass(frozen=True, slots=True)
class Speaker:
    """An eSpeak voice at a rate (words per minute) and pitch (0-99)."""

    voice: str
    rate: int
    pitch: int

    @property
    def name(self) -> str:
        """The speaker's id in the manifest."""
        return f"{self.voice.replace('+', '_')}-r{self.rate}-p{self.pitch}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """One utterance before it is spoken; `pitch` is the speaker's with this utterance's jitter."""

    id: str
    sentence: _grammar.Sentence
    speaker: Speaker
    pitch: int


def speakers(split: str) -> tuple[Speaker, ...]:
    """The speakers of a split."""
    voices = HELDOUT_VOICES if split == "test_heldout_voice" else TRAINING_VOICES
    return tuple(Speaker(voice, rate, pitch) for voice, rate in voices.items() for pitch in _PITCHES)


def sentences(split: str, number: int | None = None) -> list[_grammar.Sentence]:
    """The first `number` sentences of a split (all without it); `test_heldout_voice` has those of `test`."""
    wanted = SIZES[split] if number is None else min(number, SIZES[split])
    # The same sentences by another voice, so that the two splits differ in the voice alone.
    sources: dict[str, _grammar.Split] = {"train": "train", "fine-tune": "fine-tune", "dev": "dev"}
    return _grammar.sentences(sources.get(split, "test"), wanted, seed=SEED)


def generate(split: str, out: Path, *, limit: int | None = None, workers: int | None = None) -> None:
    """Writes `out/<split>.jsonl` and the audio under `out/audio/<split>`, the manifest last.

    Files are made in a temporary folder and moved one by one, so that a killed run leaves no manifest and two runs at
    once write the same bytes.

    Args:
        split: one of `SIZES`.
        out: the folder of the corpus.
        limit: only the first so many utterances.
        workers: processes; by default one a core. Changes nothing but the time.

    Raises:
        CorpusError: if eSpeak NG is absent or fails.
    """
    plans = _plan(split, limit)
    audio = out / "audio" / split
    audio.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{split}-") as folder:
        part = Path(folder)
        spoken = _espeak.speak([_job(plan, part) for plan in plans], workers=workers)
        for plan in plans:
            (part / f"{plan.id}.wav").replace(audio / f"{plan.id}.wav")
        manifest = part / f"{split}.jsonl"
        write_manifest(manifest, [_utterance(p, s, split) for p, s in zip(plans, spoken, strict=True)])
        manifest.replace(out / f"{split}.jsonl")


def _plan(split: str, limit: int | None) -> list[_Plan]:
    return [_plan_one(split, index, sentence) for index, sentence in enumerate(sentences(split, limit))]


def _plan_one(split: str, index: int, sentence: _grammar.Sentence) -> _Plan:
    everyone = list(speakers(split))
    # Every block of as many utterances as speakers has each speaker once, in an order that follows nothing else.
    Random(f"{SEED} {split} {index // len(everyone)} speakers").shuffle(everyone)
    speaker = everyone[index % len(everyone)]
    rng = Random(f"{SEED} {split} {index} jitter")
    return _Plan(f"demo{VERSION}-{split}-{index:04d}", sentence, speaker, speaker.pitch + rng.randint(-2, 2))


def _job(plan: _Plan, folder: Path) -> _espeak.SpeechJob:
    speaker = plan.speaker
    return _espeak.SpeechJob(
        plan.sentence.text, speaker.voice, speaker.rate, plan.pitch, str(folder / f"{plan.id}.wav")
    )


def _utterance(plan: _Plan, spoken: _espeak.Spoken, split: str) -> Utterance:
    words = zip(plan.sentence.text.split(), spoken.words, strict=True)
    return Utterance(
        id=plan.id,
        audio=f"audio/{split}/{plan.id}.wav",
        sample_rate=spoken.sample_rate,
        seconds=round(spoken.num_samples / spoken.sample_rate, 6),
        text=plan.sentence.text,
        speaker=plan.speaker.name,
        split=split,
        words=tuple(Word(word, start, end) for word, (start, end) in words),
        sentiment=plan.sentence.sentiment,
        entities=plan.sentence.entities,
    )


def _is_whole(split: str, out: Path) -> bool:
    """Whether `out` holds this very split already, with its audio."""
    try:
        found = read_manifest(out / f"{split}.jsonl")
    except ManifestError:
        return False
    plans = _plan(split, None)
    planned = [(p.id, p.sentence.text, p.sentence.sentiment, p.sentence.entities) for p in plans]
    stored = [(u.id, u.text, u.sentiment, u.entities) for u in found]
    return stored == planned and all((out / u.audio).is_file() for u in found)


class DemoCorpus:
    """The adapter of the corpus `demo`."""

    info = CorpusInfo(
        name="demo",
        description=f"English sentences of a seeded grammar spoken by eSpeak NG in five voices (version {VERSION}).",
        splits=tuple(SIZES),
        license="the sentences are the project's; eSpeak NG is GPL-3.0-or-later and lays no claim to what it speaks",
        source="generated on first use",
        version=VERSION,
    )
    generated = True

    def prepare(self, root: Path | None, out: Path, splits: Sequence[str]) -> Path:
        """Generates the named splits (all when none are named) that `out` does not hold yet; returns `out`.

        Raises:
            CorpusError: if `root` is given, or eSpeak NG is absent or fails.
        """
        if root is not None:
            raise CorpusError(f"The corpus 'demo' is generated and reads no folder; leave out --root (found '{root}').")
        for split in splits or self.info.splits:
            if not _is_whole(split, out):
                generate(split, out)
        return out


CORPUS = DemoCorpus()
