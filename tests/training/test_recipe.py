from collections.abc import Iterator, Mapping

import pytest

from harness.config import build, merge, plain
from harness.errors import ConfigError
from harness.training.loop import deciding
from harness.training.recipe import Architecture, TokenizersConfig, TrainingConfig

KINDS = (TrainingConfig, Architecture, TokenizersConfig)


def numbers(record: Mapping, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the numeric leaves of a nested record."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers(value, (*above, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*above, key)


def built(kind: type, path: tuple[str, ...], value: object) -> object:
    """A record whose leaf at `path` is `value` and whose other leaves have their defaults."""
    change: object = value
    for key in reversed(path):
        change = {key: change}
    return build(kind, merge(plain(kind()), change), where="card")


NUMBERS = [(kind, path) for kind in KINDS for path in numbers(plain(kind()))]


@pytest.mark.parametrize(("kind", "path"), NUMBERS, ids=[".".join([k.__name__, *p]) for k, p in NUMBERS])
def test_no_number_may_be_negative(kind, path):
    with pytest.raises(ConfigError, match=path[-1] if path[0] != "mixture" else "Mixture weights must be ≥ 0"):
        built(kind, path, -1)


POSITIVE = (
    "steps", "batch_tokens", "accumulate", "row_tokens", "eval_every", "checkpoint_every", "eval_documents",
    "max_span_words", "learning_rate", "clip_norm",
)  # fmt: skip


@pytest.mark.parametrize("name", POSITIVE)
def test_zero_is_refused_with_the_range(name):
    with pytest.raises(ConfigError, match=rf"^card: '{name}': .*greater than.* \(found 0\)\.$"):
        built(TrainingConfig, (name,), 0)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        (Architecture, ("num_layers",), 0),
        (Architecture, ("context",), 1),
        (Architecture, ("dropout",), 1),
        (TrainingConfig, ("beta2",), 1),
        (TrainingConfig, ("decay_share",), 1.5),
        (TrainingConfig, ("prompt_dropout",), 1.5),
        (TrainingConfig, ("learning_rate",), float("nan")),
        (TrainingConfig, ("weight_decay",), float("inf")),
        (TrainingConfig, ("mixture", "ast"), float("nan")),
        (TokenizersConfig, ("num_utterances",), 0),
        (TokenizersConfig, ("text", "vocab_size"), 0),
        (TokenizersConfig, ("speech", "kmeans_n_init"), 0),
        (TokenizersConfig, ("speech", "kmeans_frames"), 99),
        (TokenizersConfig, ("speech", "features", "rate_hz"), 0),
        (TokenizersConfig, ("speech", "features", "sample_rate"), 0),
    ],
)
def test_values_outside_of_their_range_are_refused(kind, path, value):
    with pytest.raises(ConfigError, match=path[-1] if path[0] != "mixture" else "Mixture weights"):
        built(kind, path, value)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Architecture, {"hidden_size": 30, "num_heads": 4}, "hidden_size=30 does not divide among num_heads=4"),
        (TrainingConfig, {"batch_tokens": 512, "accumulate": 3}, "holds 2 rows of row_tokens=256, too few for accum"),
        (TrainingConfig, {"learning_rate": 1e-5}, "min_learning_rate=0.0002 is above learning_rate=1e-05"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(kind, settings, where="card")


def test_a_trial_of_few_steps_validates_on_few_documents():
    assert TrainingConfig(steps=2).validation_documents == 8
    assert TrainingConfig(steps=50).validation_documents == 50
    assert TrainingConfig(steps=5000).validation_documents == 100
    assert TrainingConfig(steps=5000, eval_documents=7).validation_documents == 7


def test_a_run_is_known_by_every_field_but_the_type_of_its_export():
    # Names of data and of weights to start from are no content, which the identity of the data holds.
    names = {"train", "dev", "start_from"}
    assert set(deciding(TrainingConfig())) == set(plain(TrainingConfig())) - {"export_dtype", *names}
    assert deciding(TrainingConfig(export_dtype="float16")) == deciding(TrainingConfig())
    assert deciding(TrainingConfig(prompt_dropout=0.2)) == deciding(TrainingConfig()) | {"prompt_dropout": 0.2}
