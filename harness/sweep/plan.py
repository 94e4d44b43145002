"""The plan of a sweep: what all trials share, computed once before the first one starts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import build, digest, merge, plain
from harness.errors import ConfigError, SweepError
from harness.evaluation.evaluate import RunConfig, evaluate, load_tasks
from harness.files import write_json
from harness.model import Model, ModelCard, adapter_registry, read_card
from harness.progress import ProgressCallback
from harness.results import Metric
from harness.sweep.simplex import Repetition
from harness.sweep.spec import SweepSpec
from harness.training.recipe import FORMATS, TrainingConfig, TrainingRecipe
from harness.training.train import TrainingData, train_model, training_card, training_data

PLAN = "sweep.json"
#: Settings that may change when a sweep is resumed: none of them has an effect on the result of a trial.
EXTENSIBLE = ("trials", "surfaces", "confirm", "description", "storage")


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is ready to run; the content of `sweep.json`.

    Attributes:
        spec: as read.
        cards: of each size, before mixture and seed.
        repetition: bounds on the shares from the size of the corpus.
        higher_is_better: direction of every metric that the tasks gave of the untrained proxy.
        untrained: values of those metrics, the level at which every trial starts.
        chance: levels of chance, where there are any.
    """

    spec: SweepSpec
    cards: dict[str, ModelCard]
    repetition: Repetition
    higher_is_better: dict[str, bool | None]
    untrained: dict[str, float]
    chance: dict[str, float | None] = field(default_factory=dict)

    @property
    def study(self) -> str:
        """Name of the study: the sweep's name and a digest of everything that can change its numbers."""
        cards = {name: {**plain(card), "folder": None} for name, card in self.cards.items()}
        return f"{self.spec.name}-{digest([_deciding(self.spec), cards])[:10]}"

    def higher(self, key: str) -> bool:
        """Whether a higher value of an objective is better."""
        return bool(self.higher_is_better[key])

    def steps(self, size: str) -> int:
        """Optimizer steps of a trial."""
        return num_steps(self.cards[size], self.spec.tokens)

    def training(self, size: str) -> TrainingConfig:
        """How a trial is trained, before mixture, seed and steps."""
        return _training(self.cards[size])


def _deciding(spec: SweepSpec) -> dict[str, Any]:
    return {key: value for key, value in plain(spec).items() if key not in EXTENSIBLE}


def num_steps(card: ModelCard, tokens: int) -> int:
    """Steps that read about `tokens` tokens; rows that are not quite full make it a few per cent fewer."""
    config, row = _training(card), _row_tokens(card)
    rows = max(1, config.batch_tokens // row // config.accumulate) * config.accumulate
    return max(1, round(tokens / (rows * row)))


def _training(card: ModelCard) -> TrainingConfig:
    return TrainingRecipe.of(card).training


def _row_tokens(card: ModelCard) -> int:
    recipe = TrainingRecipe.of(card)
    return min(recipe.training.row_tokens, recipe.architecture.context)


def trial_card(plan: SweepPlan, mixture: Mapping[str, float], *, seed: int, size: str, name: str) -> ModelCard:
    """The card that one trial trains."""
    card = plan.cards[size]
    training = {
        "mixture": {part: float(mixture.get(part, 0.0)) for part in FORMATS},
        "ratio_unit": plan.spec.ratio_unit,
        "seed": seed,
        "steps": plan.steps(size),
    }
    return dataclasses.replace(card, name=name, training={**card.training, **training})


def load_trained(card: ModelCard, checkpoint: Path, *, device: str = "cpu") -> Model:
    """The model that a trial trained."""
    where = dataclasses.replace(card, checkpoint=str(checkpoint.absolute()), sha256=None)
    return adapter_registry().load(card.adapter)(where, device=device)


def evaluation(spec: SweepSpec) -> RunConfig:
    """The evaluation, the same for every trial."""
    return RunConfig(
        tasks=tuple(spec.tasks), corpus=spec.corpus, split=spec.split, seed=spec.eval_seed, settings=spec.tasks
    )


def sized_cards(spec: SweepSpec) -> dict[str, ModelCard]:
    """The proxy in every size.

    Raises:
        ConfigError: if a card cannot be trained, or a schedule makes early rungs of `asha` meaningless.
    """
    base = training_card(read_card(spec.card), corpus=None, settings=spec.settings)
    cards = {}
    for size, architecture in spec.sizes.items():
        card = dataclasses.replace(base, architecture=merge(base.architecture, architecture), sha256=None)
        config = TrainingRecipe.of(card, where=f"sizes.{size}").training
        if spec.asha and config.schedule == "cosine":
            raise ConfigError(
                "asha compares trials in mid-training, where a cosine schedule says little of their end; "
                "set settings.training.schedule to wsd or constant."
            )
        cards[size] = card
    return cards


def prepare(
    spec: SweepSpec, folder: Path, *, device: str = "cpu", progress: ProgressCallback | None = None
) -> tuple[SweepPlan, TrainingData | None]:
    """Makes `folder` ready for workers, or resumes the sweep that it holds.

    Tokenizers and units are computed and cached; one step of training is evaluated on every task, so that wrong metric
    keys, options and corpora are found before the first trial. The caller makes sure that only one process prepares.

    Returns:
        The plan, and the training data if they had to be loaded.

    Raises:
        ConfigError: if the folder holds another sweep, an objective is not a metric of its task or has no direction, or
            the uniform mixture repeats data too often.
    """
    if (folder / PLAN).is_file():
        return _resumed(spec, folder), None
    load_tasks(tuple(spec.tasks), spec.tasks)
    cards = sized_cards(spec)
    data = training_data(cards[spec.size], device=device, progress=progress)
    repetition = repetition_of(spec, cards[spec.size], data)
    spec.candidates(repetition)
    metrics = _untrained_metrics(spec, cards[spec.size], data, folder, device=device, progress=progress)
    directions = {key: metric.higher_is_better for key, metric in metrics.items()}
    _check_metrics(spec, directions)
    plan = SweepPlan(
        spec=spec,
        cards=cards,
        repetition=repetition,
        higher_is_better=directions,
        untrained={key: metric.value for key, metric in metrics.items()},
        chance={key: metric.chance for key, metric in metrics.items()},
    )
    write_plan(plan, folder)
    return plan, data


def _check_metrics(spec: SweepSpec, directions: Mapping[str, bool | None]) -> None:
    for key in spec.reported:
        if key not in directions:
            known = ", ".join(sorted(k for k in directions if k.split(".")[0] == key.split(".")[0]))
            raise ConfigError(f"'{key}' is not a metric that its task gives. It gives: {known}.")
        if directions[key] is None:
            raise ConfigError(f"'{key}' has no better direction, so that no mixture can be the best.")


def _resumed(spec: SweepSpec, folder: Path) -> SweepPlan:
    plan = read_plan(folder)
    old, new = _deciding(plan.spec), _deciding(spec)
    if changed := [key for key in new if new[key] != plain(old[key])]:
        raise ConfigError(
            f"{folder} holds a sweep with another '{changed[0]}': {old[changed[0]]!r}, now {new[changed[0]]!r}. Choose "
            "another --output, or remove the folder."
        )
    _check_metrics(spec, plan.higher_is_better)
    plan = dataclasses.replace(plan, spec=spec)
    write_plan(plan, folder)
    return plan


def repetition_of(spec: SweepSpec, card: ModelCard, data: TrainingData) -> Repetition:
    """Measures one pass over the corpus in each part's format."""
    row = _row_tokens(card)
    passes, numbers = [], []
    for part in spec.names:
        usable = [u for u in data.train if part != "ast" or u.aligned]
        if not usable:
            raise ConfigError(
                "No training utterance has word times, which alternating sequences need; leave 'ast' out of the parts, "
                "or give the corpus alignments."
            )
        lengths = [len(data.formatter.format(u, part, np.random.default_rng([0, i]))) for i, u in enumerate(usable)]
        passes.append(float(sum(min(row, length) for length in lengths)))
        numbers.append(len(usable))
    return Repetition(tuple(passes), tuple(numbers), float(spec.tokens), spec.ratio_unit, spec.max_epochs)


def _untrained_metrics(
    spec: SweepSpec,
    card: ModelCard,
    data: TrainingData,
    folder: Path,
    *,
    device: str,
    progress: ProgressCallback | None,
) -> dict[str, Metric]:
    mixture = {part: float(part in spec.names) for part in FORMATS}
    # A step that changes almost nothing, so that a learning rate too high for training does not fail this check.
    slow = {"schedule": "constant", "learning_rate": 1e-6, "min_learning_rate": 0.0}
    training = {**card.training, **slow, "steps": 1, "mixture": mixture}
    one_step = dataclasses.replace(card, name=f"{spec.name}-untrained", training=training)
    scratch = folder / "untrained"
    trained = train_model(
        one_step, data=data, state=scratch / "state", output=scratch / "checkpoint", device=device, progress=progress
    )
    model = load_trained(one_step, trained.checkpoint, device=device)
    metrics = evaluate(model, evaluation(spec), progress=progress).metrics
    shutil.rmtree(scratch)
    return metrics


def write_plan(plan: SweepPlan, folder: Path) -> None:
    """Writes `sweep.json` whole or not at all."""
    content = {
        "study": plan.study,
        "spec": plain(plan.spec),
        "cards": {size: plain(card) for size, card in plan.cards.items()},
        "repetition": plain(plan.repetition),
        "higher_is_better": plan.higher_is_better,
        "untrained": plan.untrained,
        "chance": plan.chance,
    }
    write_json(folder / PLAN, content)


def read_plan(folder: Path) -> SweepPlan:
    """The plan of a sweep's folder.

    Raises:
        SweepError: if the folder holds none.
    """
    path = folder / PLAN
    if not path.is_file():
        raise SweepError(
            f"{folder} holds no {PLAN}, so it is not a sweep. Give the folder of 'harness sweep run --output'."
        )
    content = json.loads(path.read_text("utf-8"))
    repetition: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["repetition"].items()}
    return SweepPlan(
        spec=build(SweepSpec, content["spec"], where=str(path)),
        cards={
            size: build(ModelCard, {**card, "folder": Path(card["folder"])}, where=str(path))
            for size, card in content["cards"].items()
        },
        repetition=Repetition(**repetition),
        higher_is_better=content["higher_is_better"],
        untrained=content["untrained"],
        chance=content["chance"],
    )
