"""`harness data` and `harness tokenizer`: corpora and speech tokenizers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_device_and_set, command, names_in, positive
from harness.cli.cache import limit_cache
from harness.cli.printing import ProgressBar, print_data, say


def _data_prepare(a: argparse.Namespace) -> int:
    from harness.corpora.corpus import prepare_corpus, prepared_splits

    folder = prepare_corpus(a.name, Path(a.root) if a.root else None, names_in(a.splits) if a.splits else ())
    splits = prepared_splits(folder.name)
    report = {
        name: {"manifest": str(s.manifest), "audio": str(s.root), "notes": list(s.notes)} for name, s in splits.items()
    }
    print_data(a, report)
    return 0


def _data_show(a: argparse.Namespace) -> int:
    from harness.corpora.show import describe_corpus

    print_data(a, describe_corpus(a.name, a.split))
    return 0


def _data_check(a: argparse.Namespace) -> int:
    from harness.corpora.show import check_manifest

    print_data(a, check_manifest(Path(a.manifest), Path(a.root) if a.root else None))
    return 0


def _tokenizer_train(a: argparse.Namespace) -> int:
    from harness.config import build, parse_settings
    from harness.speech.tokenizer import TokenizerConfig, train_tokenizer

    config = build(TokenizerConfig, parse_settings(a.set), where="--set")
    with ProgressBar(a) as progress:
        summary = train_tokenizer(
            a.corpus, a.split, config, Path(a.output), seed=a.seed, limit=a.limit, device=a.device,
            progress=lambda done, total: progress.update("units", done, total),
        )  # fmt: skip
    print_data(a, summary)
    return 0


def _tokenizer_encode(a: argparse.Namespace) -> int:
    from harness.segments import AudioSpan
    from harness.speech.tokenizer import EncodeStats, SpeechTokenizer

    tokenizer = SpeechTokenizer.load(Path(a.tokenizer))
    limit_cache(a)
    stats: list[EncodeStats] = []
    spans = tokenizer.encode([AudioSpan(Path(f)) for f in a.audio], device=a.device, report=stats.append)
    for file, span in zip(a.audio, spans, strict=True):
        row = {
            "audio": file,
            "system": span.system,
            "rate_hz": span.rate_hz,
            "units": span.units,
            "durations": span.durations,
        }
        print(json.dumps({**row, "subwords": tokenizer.subwords(span)}))
    say(
        a,
        f"{stats[0].num_files} files, {stats[0].num_cached} from the cache, {stats[0].times_real_time:.0f} x real time",
    )
    return 0


def _tokenizer_show(a: argparse.Namespace) -> int:
    from harness.speech.tokenizer import describe

    print_data(a, describe(Path(a.tokenizer)))
    return 0


def add_data(commands: Any) -> None:
    """Adds the parser of `harness data`."""
    data = commands.add_parser("data", help="prepare, show and check corpora").add_subparsers(
        metavar="ACTION", required=True
    )
    prepare = command(
        data, "prepare", _data_prepare, "write manifests of a corpus from its distribution",
        "harness data prepare librispeech --root /data/LibriSpeech",
    )  # fmt: skip
    prepare.add_argument("name", help="corpus; see 'harness list corpora'")
    prepare.add_argument("--root", metavar="DIR", help="your local copy of the official distribution")
    prepare.add_argument("--splits", metavar="A,B", help="only these splits (default: all that are there)")
    show = command(data, "show", _data_show, "sizes, digests and license of a corpus", "harness data show demo")
    show.add_argument("name", help="corpus, or a manifest .jsonl")
    show.add_argument("--split", help="only this split")
    check = command(data, "check", _data_check, "validate a manifest and its audio", "harness data check my/test.jsonl")
    check.add_argument("manifest", help="a manifest .jsonl")
    check.add_argument("--root", metavar="DIR", help="folder that audio paths start from (default: the manifest's)")


def add_tokenizer(commands: Any) -> None:
    """Adds the parser of `harness tokenizer`."""
    group = commands.add_parser("tokenizer", help="train, apply and show speech tokenizers")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    train = command(
        actions, "train", _tokenizer_train, "train a speech tokenizer on a corpus split",
        "harness tokenizer train --corpus demo --split train --output tok --set n_clusters=50 --set vocab_size=1000",
    )  # fmt: skip
    train.add_argument("--corpus", default="demo", help="corpus or manifest (default: demo)")
    train.add_argument("--split", default="train", help="split (default: train)")
    train.add_argument("--output", required=True, metavar="DIR", help="folder of the tokenizer")
    train.add_argument("--limit", type=positive, help="utterances to learn from (default: all)")
    train.add_argument("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    add_device_and_set(train, "part of the recipe, such as features.kind=hubert-base")
    encode = command(
        actions, "encode", _tokenizer_encode, "print units and subwords of audio files, a JSON line each",
        "harness tokenizer encode tok speech.wav",
    )  # fmt: skip
    encode.add_argument("tokenizer", help="folder of the tokenizer, such as models/sutlm-tiny/speech")
    encode.add_argument("audio", nargs="+", help="audio files: any rate and format that libsndfile reads")
    encode.add_argument("--device", default="cpu", help="where a self-supervised extractor runs (default: cpu)")
    encode.add_argument("--no-cache", action="store_true", help="compute everything afresh and keep nothing")
    show = command(
        actions, "show", _tokenizer_show, "parameters and digests of a tokenizer", "harness tokenizer show tok"
    )
    show.add_argument("tokenizer", help="folder of the tokenizer")
