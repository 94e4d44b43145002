"""The contract of tasks finds nothing wrong with a sound one, and notices each kind of mistake."""

import pytest

from harness.corpora.manifest import Utterance, write_manifest
from harness.testing import TaskContract

BROKEN = """
from dataclasses import dataclass, replace
from harness.task import task_registry

Cra = type(task_registry().load("cra"))

class Broken(Cra):
    {body}

TASK = Broken()
"""

EXAMPLES = """def examples(self, corpus, options, *, limit, seed):
        return super().examples({corpus}, options, limit={limit}, seed=seed)"""
REQUESTS = """def requests(self, examples, options, *, modalities):
        return super().requests(examples, options, modalities={modalities}){then}"""
SCORE = """def score(self, examples, options, answers):
        return [{item} for i in super().score(examples, options, answers){only}]"""
SUMMARIZE = """def summarize(self, items, options, *, seed):
        return {{{pair} for k, m in super().summarize(items, options, seed=seed).items()}}"""


@pytest.fixture
def contract_for(tmp_path):
    """The contract of CRA with something about it overridden, on six sentences."""
    sentences = [
        "one two three four",
        "a much longer sentence than that",
        "five six seven eight nine",
        "yes sir no sir",
    ]
    utterances = [
        Utterance(f"u{i}", "a.wav", 16_000, 1.0, text, "s", "test")
        for i, text in enumerate([*sentences, "the end of all things", "who goes there my friend"])
    ]
    write_manifest(tmp_path / "six.jsonl", utterances)

    def contract(body):
        (tmp_path / "broken.py").write_text(BROKEN.format(body=body))
        settings = {
            "name": f"{tmp_path / 'broken.py'}:TASK",
            "settings": ("directions=[t2t]",),
            "corpus": str(tmp_path / "six.jsonl"),
        }
        return type("Contract", (TaskContract,), settings)()

    return contract


@pytest.mark.parametrize("promise", [n for n in dir(TaskContract) if n.startswith("test_") and "process" not in n])
def test_the_contract_finds_nothing_wrong_with_a_sound_task(contract_for, promise):
    getattr(contract_for("pass"), promise)()


@pytest.mark.parametrize(
    ("body", "promise"),
    [
        ("info = replace(Cra.info, source='')", "info_is_complete"),
        ("info = replace(Cra.info, headline=('pelm.u2u.ppl',))", "info_is_complete"),
        ("Options = dataclass(type('Options', (), {}))", "options_are_a_frozen_strict_record_with_defaults"),
        (EXAMPLES.format(corpus="corpus", limit="None"), "examples_follow_from_the_seed"),
        (
            EXAMPLES.format(corpus="replace(corpus, utterances=corpus.utterances[:4])", limit="limit"),
            "the_order_of_utterances_changes_no_number",
        ),
        (REQUESTS.format(modalities="modalities", then=" * 2"), "requests_are_well_formed"),
        (
            REQUESTS.format(modalities="frozenset({'speech', 'text'})", then=""),
            "a_model_of_one_modality_is_asked_for_that_alone",
        ),
        (SCORE.format(item="i", only=" if i.failed is None"), "what_cannot_be_scored_fails_and_says_why"),
        (
            SCORE.format(item="replace(i, prompt=float('nan'))", only=""),
            "items_are_records_with_ids_of_their_own",
        ),
        (SCORE.format(item="replace(i, id='same')", only=""), "items_are_records_with_ids_of_their_own"),
        (SUMMARIZE.format(pair="k.replace('.', '@'): m"), "metric_keys_name_task_condition_and_metric"),
        (SUMMARIZE.format(pair="k: replace(m, chance=0.9)"), "a_uniform_model_is_at_chance"),
        (SUMMARIZE.format(pair="k: replace(m, chance=None)"), "a_uniform_model_is_at_chance"),
    ],
)
def test_the_contract_notices(contract_for, body, promise):
    with pytest.raises((AssertionError, ValueError)):
        getattr(contract_for(body), f"test_{promise}")()
