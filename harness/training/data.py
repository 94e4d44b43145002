"""From corpora to what training reads: tokenizers, cached by digest, and paired utterances."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config import digest, home
from harness.corpora.corpus import Corpus, open_corpus
from harness.errors import CorpusError
from harness.segments import AudioSpan
from harness.speech.tokenizer import SpeechTokenizer
from harness.training.checkpoint import SPEECH, TEXT, Tokenizers
from harness.training.formats import PairedUtterance
from harness.training.recipe import TokenizersConfig
from harness.training.text_tokenizer import train_text_tokenizer

Progress = Callable[[str, int, int], None]


def open_splits(names: Sequence[str]) -> list[Corpus]:
    """Corpora of names such as `demo:train`.

    Raises:
        CorpusError: if a name has no split or a split is not prepared.
    """
    corpora = []
    for name in names:
        corpus, sign, split = name.rpartition(":")
        if not sign:
            raise CorpusError(f"'{name}' names no split; write it as corpus:split, such as demo:train.")
        corpora.append(open_corpus(corpus, split))
    return corpora


def prepare_tokenizers(
    config: TokenizersConfig, corpora: Sequence[Corpus], *, device: str = "cpu", progress: Progress | None = None
) -> Path:
    """The folder of the tokenizers that `config` and these corpora give, trained on first use.

    Text subwords learn from every transcript, codebook and unit subwords from `config.num_utterances` drawn by seed.
    """
    key = digest({"config": config, "corpora": [c.digest for c in corpora]})[:16]
    folder = home() / "tokenizers" / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=folder.parent))
    try:
        train_text_tokenizer((u.text for c in corpora for u in c.utterances), config.text, part / TEXT)
        audio = [AudioSpan(c.audio_path(u)) for c in corpora for u in c.utterances]
        if config.num_utterances < len(audio):
            audio = random.Random(config.seed).sample(audio, config.num_utterances)
        speech = SpeechTokenizer.train(
            audio, config.speech, config.seed, device=device,
            progress=(lambda _, n, total: progress("speech tokenizer", n, total)) if progress else None,
        )  # fmt: skip
        trained_on = [{"corpus": c.name, "split": c.split, "digest": c.digest} for c in corpora]
        speech.save(part / SPEECH, trained_on={"corpora": trained_on, "num_utterances": len(audio)})
        part.replace(folder)
    except OSError:
        # Another process finished the same folder first; its content is the same by digest.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def pair(
    corpora: Sequence[Corpus], tokenizers: Tokenizers, *, device: str = "cpu", progress: Progress | None = None
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
