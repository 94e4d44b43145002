import pytest

from harness.errors import ConfigError
from harness.speech.config import TokenizerConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n_clusters": 1}, "at least 2"), ({"n_clusters": 50, "vocab_size": 49}, "must reach 'n_clusters'")],
)
def test_configurations_that_make_no_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig(**settings)
