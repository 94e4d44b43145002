import pytest

from harness.engine.finetune_config import FineTuneConfig, TrainingExample, continuation_example
from harness.errors import OptionError


def test_a_continuation_is_predicted_from_the_last_token_of_its_context_on():
    """Context 5 6 7, continuation 8 9: position 2, where 7 is, predicts 8, and position 3 predicts 9 (not read)."""
    assert continuation_example([5, 6, 7], [8, 9], weight=2.0) == TrainingExample((5, 6, 7, 8), (2, 3), (8, 9), 2.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs is at least 1; found 0"),
        ({"lora_rank": 0}, "lora_rank is at least 1"),
        ({"learning_rate": 0.0}, "learning_rate and clip_norm are > 0"),
        ({"warmup_share": 1.0}, "warmup_share lies in"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(OptionError, match=message):
        FineTuneConfig(**setting)
