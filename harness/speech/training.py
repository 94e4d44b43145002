"""Trains a speech tokenizer on a corpus."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from harness.corpora.corpus import open_corpus
from harness.progress import ProgressCallback
from harness.segments import AudioSpan
from harness.speech.config import TokenizerConfig
from harness.speech.record import describe
from harness.speech.tokenizer import SpeechTokenizer


def train_tokenizer(
    corpus_name: str,
    split: str,
    config: TokenizerConfig,
    out_folder: Path,
    *,
    seed: int,
    limit: int | None = None,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Trains a tokenizer on a corpus split, saves it, and returns a summary.

    Args:
        corpus_name: a corpus, or a manifest by path.
        split: its split.
        config: what to train.
        out_folder: of the tokenizer.
        seed: of every draw.
        limit: number of utterances to train on, drawn at random; None: no limit.
        device: where a self-supervised extractor runs.
        progress: called with the number of audio files done.
    """
    start = time.perf_counter()
    corpus = open_corpus(corpus_name, split)
    utterances = corpus.utterances
    if limit is not None and limit < len(utterances):
        chosen = set(random.Random(seed).sample([u.id for u in utterances], limit))
        utterances = tuple(u for u in utterances if u.id in chosen)
    audio = [AudioSpan(corpus.audio_path(u)) for u in utterances]
    tokenizer = SpeechTokenizer.train(audio, config, seed, device=device, progress=progress)
    spans = tokenizer.encode(audio, device=device)
    seconds, num_units = sum(s.seconds for s in spans), sum(len(s.units) for s in spans)
    trained_on = {
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "split": split,
        "num_utterances": len(utterances),
        "audio_s": round(seconds, 3),
        "seed": seed,
    }
    tokenizer.save(out_folder, trained_on=trained_on)
    return {
        **describe(out_folder),
        "units_seen": len({unit for span in spans for unit in span.units}),
        "units_per_s": num_units / seconds,
        "subwords_per_s": sum(len(tokenizer.subwords(span)) for span in spans) / seconds,
        "times_real_time": seconds / (time.perf_counter() - start),
    }
