"""`harness data` and `harness tokenizer`: corpora and speech tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.arguments import (
    Device,
    Json,
    NoCache,
    Quiet,
    Seed,
    corpus_argument,
    corpus_option,
    folder_option,
    names_in,
    settings_of,
    split_option,
)
from harness.cli.cache import temporary_cache
from harness.cli.printing import Printer, print_json

TokenizerFolder = Annotated[
    str, typer.Argument(metavar="TOKENIZER", help="folder of the tokenizer, such as models/sutlm-tiny/speech")
]


def prepare(
    name: Annotated[str, corpus_argument("corpus; see 'harness list corpora'")],
    *,
    root: Annotated[str | None, folder_option("your local copy of the official distribution", "--root")] = None,
    splits: Annotated[
        str | None,
        typer.Option("--splits", metavar="A,B", help="only these splits (default: all that are there)"),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write manifests of a corpus from its distribution.

    Example:
        harness data prepare librispeech --root /data/LibriSpeech
    """
    from harness.corpora.corpus import prepare_corpus, prepared_splits

    folder = prepare_corpus(name, Path(root) if root else None, names_in(splits) if splits else ())
    report = {
        split: {"manifest": str(s.manifest), "audio": str(s.root), "notes": list(s.notes)}
        for split, s in prepared_splits(folder.name).items()
    }
    Printer(json=json, quiet=quiet).data(report)


def show_corpus(
    name: Annotated[str, corpus_argument("corpus, or a manifest .jsonl")],
    *,
    split: Annotated[str | None, split_option("only this split")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show sizes, digests and license of a corpus.

    Example:
        harness data show demo
    """
    from harness.corpora.show import describe_corpus

    Printer(json=json, quiet=quiet).data(describe_corpus(name, split))


def check(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="a manifest .jsonl")],
    *,
    root: Annotated[
        str | None, folder_option("folder that audio paths start from (default: the manifest's)", "--root")
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="hash every audio file anew, and list those whose bytes have changed")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Validate a manifest and its audio.

    Example:
        harness data check my/test.jsonl --content
    """
    from harness.corpora.show import check_manifest

    printer = Printer(json=json, quiet=quiet)
    with printer.progress() as progress:
        found = check_manifest(Path(manifest), Path(root) if root else None, content=content, progress=progress.update)
    printer.data(found)


def train_speech_tokenizer(
    *,
    corpus: Annotated[str, corpus_option("corpus or manifest (default: demo)")] = "demo",
    split: Annotated[str, split_option("split (default: train)")] = "train",
    output: Annotated[str, folder_option("folder of the tokenizer")],
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="utterances to learn from (default: all)")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    settings: Annotated[list[str] | None, settings_of("part of the recipe, such as features.kind=hubert-base")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a speech tokenizer on a corpus split.

    Example:
        harness tokenizer train --corpus demo --output tok --set n_clusters=50 --set vocab_size=1000
    """
    from harness.config import build, parse_settings
    from harness.speech.config import TokenizerConfig
    from harness.speech.training import train_tokenizer

    config = build(TokenizerConfig, parse_settings(settings or ()), where="--set")
    printer = Printer(json=json, quiet=quiet)
    with printer.progress() as progress:
        summary = train_tokenizer(
            corpus, split, config, Path(output), seed=seed, limit=limit, device=device,
            progress=lambda _, done, total: progress.update("units", done, total),
        )  # fmt: skip
    printer.data(summary)


def encode(
    tokenizer: TokenizerFolder,
    audio: Annotated[
        list[str],
        typer.Argument(metavar="AUDIO", help="audio files: any rate and format that libsndfile reads"),
    ],
    *,
    device: Device = "cpu",
    no_cache: NoCache = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print units and subwords of audio files, a JSON line each.

    Example:
        harness tokenizer encode tok speech.wav
    """
    from harness.segments import AudioSpan
    from harness.speech.tokenizer import EncodeStats, SpeechTokenizer

    loaded = SpeechTokenizer.load(Path(tokenizer))
    reports: list[EncodeStats] = []
    with temporary_cache(no_cache):
        spans = loaded.encode([AudioSpan(Path(f)) for f in audio], device=device, report=reports.append)
    for file, span in zip(audio, spans, strict=True):
        row = {
            "audio": file,
            "system": span.system,
            "rate_hz": span.rate_hz,
            "units": span.units,
            "durations": span.durations,
            "subwords": loaded.subwords(span),
        }
        print_json(row, indent=None)
    stats = reports[0]
    text = f"{stats.num_files} files, {stats.num_cached} from the cache, {stats.times_real_time:.0f} x real time"
    Printer(json=json, quiet=quiet).say(text)


def show_tokenizer(tokenizer: TokenizerFolder, *, json: Json = False, quiet: Quiet = False) -> None:
    """Show parameters and digests of a tokenizer.

    Example:
        harness tokenizer show tok
    """
    from harness.speech.record import describe

    Printer(json=json, quiet=quiet).data(describe(Path(tokenizer)))
