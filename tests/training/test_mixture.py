import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from harness.errors import ConfigError, CorpusError
from harness.training.mixture import Document, MixtureStream
from harness.training.recipe import Mixture
from tests.training.toy import THIRDS, fingerprint, formatter, stream, utterances

ROOT = Path(__file__).resolve().parents[2]


def take(documents: MixtureStream, number: int) -> list[Document]:
    return list(islice(iter(lambda: next(documents), None), number))


def test_weights_are_proportions():
    assert THIRDS.shares == {"speech": 1 / 3, "text": 1 / 3, "cst": 1 / 6, "ast": 1 / 6}
    assert Mixture(speech=2, text=2, cst=1, ast=1).shares == pytest.approx(THIRDS.shares)


@pytest.mark.parametrize("weights", [{"speech": -1}, {"speech": 0, "text": 0, "cst": 0, "ast": 0}])
def test_negative_or_all_zero_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="≥ 0 and not all zero"):
        Mixture(**weights)


@pytest.mark.parametrize("unit", ["tokens", "samples"])
@pytest.mark.parametrize("mixture", [THIRDS, Mixture(), Mixture(speech=1, text=1, cst=2, ast=3), Mixture(text=9)])
def test_no_format_runs_ahead_of_its_share_by_more_than_one_document(unit, mixture):
    """Hence none of four lags behind by more than three."""
    documents, done = stream(mixture, unit=unit), dict.fromkeys(mixture.shares, 0)
    for document in take(documents, 300):
        done[document.format] += len(document.ids) if unit == "tokens" else 1
        longest = 90 if unit == "tokens" else 1
        for kind, share in mixture.shares.items():
            assert -3 * longest <= done[kind] - share * sum(done.values()) <= longest
    realized = documents.realized()
    assert {kind: row["tokens" if unit == "tokens" else "samples"] for kind, row in realized.items()} == done
    share = "token_share" if unit == "tokens" else "sample_share"
    assert sum(row[share] for row in realized.values()) == pytest.approx(1)


def test_a_zero_weight_gives_no_document():
    documents = stream(Mixture(speech=1, text=0, cst=0, ast=1))
    assert {document.format for document in take(documents, 50)} == {"speech", "ast"}
    assert set(documents.realized()) == {"speech", "ast"}


def test_every_epoch_has_each_utterance_once_in_an_order_of_its_own():
    corpus = utterances(12)
    only_text = MixtureStream(
        corpus, formatter(), Mixture(speech=0, text=1, cst=0, ast=0), ratio_unit="tokens", seed=0, max_tokens=999
    )
    first, second = take(only_text, 12), take(only_text, 12)
    assert first != second
    assert sorted(d.ids for d in first) == sorted(d.ids for d in second)
    assert only_text.realized()["text"]["epochs"] == 2


def test_a_restored_stream_goes_on_where_the_other_stood():
    for taken in (0, 1, 11, 12, 13, 60):
        left = stream()
        take(left, taken)
        right = stream()
        right.restore(json.loads(json.dumps(left.state())))
        assert take(left, 80) == take(right, 80)
        assert left.state() == right.state()
        assert left.realized() == right.realized()


def test_another_seed_gives_another_stream():
    assert take(stream(seed=0), 20) != take(stream(seed=1), 20)


def test_batches_are_the_same_bytes_in_another_process():
    command = "from tests.training.toy import fingerprint; print(fingerprint())"
    other = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint()


def test_documents_cut_to_length_are_counted():
    only_text = Mixture(speech=0, text=1, cst=0, ast=0)
    long, short = stream(only_text), stream(only_text, max_tokens=12)
    whole = take(long, 24)
    assert [d.ids for d in take(short, 24)] == [d.ids[:12] for d in whole]
    assert short.num_cut == short.state()["num_cut"] == sum(len(d.ids) > 12 for d in whole) > 0
    assert long.num_cut == 0


def test_no_utterance_is_an_error():
    with pytest.raises(CorpusError, match="no utterance"):
        MixtureStream([], formatter(), THIRDS, ratio_unit="tokens", seed=0, max_tokens=9)


def test_an_utterance_without_word_times_is_left_out_of_alternating_alone():
    corpus = utterances(12)
    corpus[4] = replace(corpus[4], starts_s=())
    for kind, number in [("ast", 11), ("cst", 12), ("speech", 12), ("text", 12)]:
        weights = {"speech": 0.0, "text": 0.0, "cst": 0.0, "ast": 0.0, kind: 1.0}
        made = MixtureStream(corpus, formatter(), Mixture(**weights), ratio_unit="samples", seed=0, max_tokens=999)
        take(made, number)
        assert made.realized()[kind]["epochs"] == 1
        assert made.state()["sources"][kind]["index"] == 0
        assert made.num_without_word_times == 12 - number


def test_other_utterances_are_formatted_as_if_none_lacked_word_times():
    """Draws depend on an utterance's place in the corpus, which does not move where another is left out."""
    corpus, only_ast = utterances(12), Mixture(speech=0, text=0, cst=0, ast=1)
    lacking = [*corpus[:4], replace(corpus[4], starts_s=()), *corpus[5:]]
    documents = [
        set(take(MixtureStream(u, formatter(), only_ast, ratio_unit="samples", seed=0, max_tokens=999), n))
        for u, n in [(corpus, 12), (lacking, 11)]
    ]
    assert documents[1] < documents[0]
