"""From corpora to what training reads: tokenizers, cached by digest, and paired utterances."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from harness.checksums import damage, set_aside, write_sums
from harness.code import PACKAGE, sources_digest, versions_of
from harness.config import digest, home
from harness.corpora.corpus import Corpus, open_corpus
from harness.errors import CorpusError
from harness.files import lock_of, new_folder
from harness.progress import ProgressCallback
from harness.segments import AudioSpan
from harness.speech.cache import encoding_version
from harness.speech.tokenizer import SpeechTokenizer
from harness.training.checkpoint import Tokenizers
from harness.training.checkpoint_folder import SPEECH, TEXT
from harness.training.formats import PairedUtterance
from harness.training.recipe import TokenizersConfig
from harness.training.text_tokenizer import train_text_tokenizer

#: Modules that train tokenizers, beside those that turn audio into units.
_TRAINERS = ("speech/units.py", "speech/config.py", "training/data.py", "training/text_tokenizer.py")


def open_splits(names: Sequence[str], *, progress: ProgressCallback | None = None) -> list[Corpus]:
    """Corpora of names such as `demo:train`, with their audio hashed.

    Raises:
        CorpusError: if a name has no split or a split is not prepared.
        ManifestError: if an audio file is not what its manifest line says.
    """
    corpora = []
    for name in names:
        corpus, sign, split = name.rpartition(":")
        if not sign:
            raise CorpusError(f"'{name}' names no split; write it as corpus:split, such as demo:train.")
        corpora.append(open_corpus(corpus, split))
        corpora[-1].read_audio(progress)
    return corpora


def prepare_tokenizers(
    config: TokenizersConfig,
    corpora: Sequence[Corpus],
    *,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> Path:
    """The folder of the tokenizers that `config`, these corpora and this code give, trained on first use.

    A folder that was damaged since is set aside with a `DamageWarning`, and they are trained again. Text subwords learn
    from every transcript, codebook and unit subwords from `config.num_utterances` drawn by seed.
    """
    key = digest({"config": config, "corpora": [c.digest for c in corpora], "code": _training_version()})[:16]
    folder = home() / "tokenizers" / key
    with lock_of(folder):  # another process that needs the same tokenizers waits for them
        if folder.is_dir() and (reason := damage(folder)):
            set_aside(folder, what="folder of tokenizers", reason=reason, instead="they are trained again")
        if not folder.is_dir():
            with new_folder(folder) as part:
                _train_tokenizers(config, corpora, part, device=device, progress=progress)
                write_sums(part)
    return folder


def _training_version() -> str:
    """Changes whenever the code does that trains tokenizers, or a version of its libraries."""
    sources = sources_digest(PACKAGE / name for name in _TRAINERS)
    return digest([sources, encoding_version(), versions_of(("sentencepiece", "scikit-learn"))])


def _train_tokenizers(
    config: TokenizersConfig, corpora: Sequence[Corpus], folder: Path, *, device: str, progress: ProgressCallback | None
) -> None:
    train_text_tokenizer((u.text for c in corpora for u in c.utterances), config.text, folder / TEXT)
    audio = [AudioSpan(c.audio_path(u)) for c in corpora for u in c.utterances]
    if config.num_utterances < len(audio):
        audio = random.Random(config.seed).sample(audio, config.num_utterances)
    speech = SpeechTokenizer.train(
        audio, config.speech, config.seed, device=device,
        progress=(lambda _, n, total: progress("speech tokenizer", n, total)) if progress else None,
    )  # fmt: skip
    trained_on = [{"corpus": c.name, "split": c.split, "digest": c.digest} for c in corpora]
    speech.save(folder / SPEECH, trained_on={"corpora": trained_on, "num_utterances": len(audio)})


def pair(
    corpora: Sequence[Corpus], tokenizers: Tokenizers, *, device: str = "cpu", progress: ProgressCallback | None = None
) -> list[PairedUtterance]:
    """Utterances with their units, in the order of the corpora; units come from the cache where they can."""
    rows = [(corpus, utterance) for corpus in corpora for utterance in corpus.utterances]
    spans = tokenizers.speech.encode(
        [AudioSpan(corpus.audio_path(utterance)) for corpus, utterance in rows],
        device=device,
        progress=(lambda _, n, total: progress("units", n, total)) if progress else None,
    )
    return [
        PairedUtterance(
            id=u.id,
            units=span,
            words=tuple(w.word for w in u.words) if u.words else tuple(u.text.split()),
            starts_s=tuple(w.start for w in u.words) if u.words else (),
        )
        for (_, u), span in zip(rows, spans, strict=True)
    ]
