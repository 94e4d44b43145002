"""Model cards, the Model protocol, and the registries of both."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic.dataclasses import dataclass

from harness.config import STRICT, build, home, merge, read_yaml
from harness.errors import CheckpointError, ConfigError, DeviceError, OptionError, UnknownNameError
from harness.registry import Registry
from harness.segments import Modality, Prompt, Segment

if TYPE_CHECKING:
    from torch import Tensor, nn

CARDS_PACKAGE = "harness.models"
#: The card that a checkpoint folder may hold beside its weights.
CARD = "card.yaml"


@dataclass(frozen=True, config=STRICT)
class ModelCard:
    """What is known of a model. The sections `tokenizers`, `architecture`, `training` are read by its adapter.

    Attributes:
        name: the registered name.
        adapter: which code loads it.
        description: one line for tables.
        checkpoint: a folder, relative to the card; None: `$HARNESS_HOME/checkpoints/<name>`.
        sha256: digest the weights must have; None: any.
        tokenizers: how its tokenizers are made.
        architecture: its sizes.
        training: how its weights are made.
        with_corpus: changes to the card when `harness train --corpus NAME` is asked for.
        options: whatever else the adapter reads.
        corpus: default corpus of tasks.
        source: where it comes from.
        license: of the weights.
    """

    name: str
    adapter: str
    description: str = ""
    checkpoint: str | None = None
    sha256: str | None = None
    tokenizers: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    with_corpus: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    corpus: str = "demo"
    source: str = ""
    license: str = ""
    #: The folder that relative paths start from; set by the reader.
    folder: Path = Path(".")

    def __post_init__(self) -> None:
        """Refuses names that could not be the name of a folder."""
        path_like = self.name.startswith(".") or "/" in self.name or "\\" in self.name
        if path_like or not self.name.strip() or not self.name.isprintable():
            raise ConfigError(
                f"A model cannot be called '{self.name}': results lie in a folder of that name. Give the card a 'name' "
                "of letters, digits, '-' and '_'."
            )

    @property
    def checkpoint_path(self) -> Path:
        """The folder of the weights, whether it exists or not."""
        return self.folder / self.checkpoint if self.checkpoint else home() / "checkpoints" / self.name

    @property
    def available(self) -> bool:
        """Whether the weights are there."""
        names = ("model.safetensors", "model.safetensors.index.json")
        return not self.needs_checkpoint or any((self.checkpoint_path / name).is_file() for name in names)

    @property
    def needs_checkpoint(self) -> bool:
        """False for adapters without weights, which say `checkpoint: none`."""
        return self.checkpoint != "none"

    def require_checkpoint(self) -> Path:
        """The folder of the weights.

        Raises:
            CheckpointError: if it is absent, saying how to get or train it.
        """
        if not self.available:
            where = f" --output {self.checkpoint_path}" if self.checkpoint else ""
            raise CheckpointError(
                f"Model '{self.name}' has no weights at {self.checkpoint_path}. Train them with "
                f"'harness train --model {self.name}{where}', or copy the card and point its 'checkpoint' at a folder "
                f"that holds model.safetensors.{' Source: ' + self.source if self.source else ''}"
            )
        return self.checkpoint_path


class Past(Protocol):
    """The KV cache of the rows of a pass, for a later pass to go on from."""

    def select(self, rows: Tensor) -> Past:
        """The same of some rows, `(rows,)` indices, in that order."""
        ...


@plain_dataclass(frozen=True, slots=True)
class Hidden:
    """Final hidden states `(batch, time, width)` and, if asked for, a `Past` to go on from.

    A model without a KV cache leaves `past` None: engines then read sequences anew.
    """

    states: Tensor
    past: Any = None


class Model(Protocol):
    """A loaded checkpoint. Made by an adapter's `MODEL(card, device=…)`."""

    card: ModelCard
    #: Digest of weights, tokenizers, computation type and all else that can change a number.
    fingerprint: str
    modalities: frozenset[Modality]
    #: Where tensors are put: a name that torch knows, or a `torch.device`.
    device: Any
    #: Longest sequence in tokens.
    max_length: int
    #: The id that ends a sequence; None for a model that never ends one.
    end: int | None
    #: The decoder itself, for engines that reach into its attention; None where there is none.
    module: nn.Module | None

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Does in bulk what encoding these segments needs (units of whole utterances)."""
        ...

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """Ids of start token and prompt, ending in a switch token where the last segment is not `target`."""
        ...

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """`encode_prompt` of an empty prompt of modality `source`: the context of the likelihood without the prompt."""
        ...

    def encode_continuation(self, segment: Segment) -> list[int]:
        """Ids of a continuation, without start, switch or end tokens."""
        ...

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """The ids that a continuation of a modality may be made of, ascending; none for a modality it lacks."""
        ...

    def decode(self, ids: Sequence[int]) -> Prompt:
        """The segments that ids stand for; specials are dropped."""
        ...

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, use_cache: bool = False
    ) -> Hidden:
        """Hidden states of `(batch, time)` ids padded on the right to `lengths`; `use_cache` returns a KV cache.

        Rows go on from `past` each at its own length: what was padding there is seen by nothing. A `past` is used up.
        """
        ...

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits `(…, vocabulary)` of hidden states `(…, width)`."""
        ...


class ModelFactory(Protocol):
    """What an adapter module exports as `MODEL`."""

    def __call__(self, card: ModelCard, *, device: str = "cpu") -> Model:
        """Loads the checkpoint of `card`."""
        ...


def adapter_registry() -> Registry[ModelFactory]:
    """Adapters: files of `models/`, and the entry point group `harness.models`."""
    return Registry(kind="model adapter", package=CARDS_PACKAGE, attribute="MODEL", group="harness.models")


def cards_folder() -> Path:
    """Where the shipped cards lie."""
    spec = importlib.util.find_spec(CARDS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"The package {CARDS_PACKAGE} is missing; reinstall sutlm-harness.")
    return Path(next(iter(spec.submodule_search_locations)))


def card_names() -> list[str]:
    """Names of the shipped cards."""
    return sorted(path.stem for path in cards_folder().glob("*.yaml"))


def is_path(name: str) -> bool:
    """Whether a model is named by path: a YAML file, or a folder, which is written with a slash (`./out`)."""
    return name.endswith((".yaml", ".yml")) or "/" in name


def read_card(name: str) -> ModelCard:
    """A card by registered name, or by path to a YAML file or to a checkpoint folder, its `base` cards merged beneath.

    Raises:
        UnknownNameError: if no card has the name.
        CheckpointError: if a folder holds no card.
        ConfigError: if the card does not fit the schema.
    """
    path = Path(name) if is_path(name) else cards_folder() / f"{name}.yaml"
    if is_path(name) and path.is_dir():
        path = path / CARD
        if not path.is_file():
            raise CheckpointError(
                f"{name} holds no {CARD}, which 'harness train' writes beside the weights; write a card whose "
                "'checkpoint' is that folder, and give its path."
            )
    if not path.is_file() and not is_path(name):
        raise UnknownNameError("model", name, card_names())
    return build(ModelCard, {**_inherit(path, ()), "folder": path.parent}, where=str(path))


def _inherit(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    if path in below:
        raise ConfigError(f"{path}: its bases lead back to itself.")
    data = read_yaml(path)
    data.setdefault("name", path.stem)
    base = data.pop("base", None)
    if not isinstance(base, str | None):
        raise ConfigError(f"{path}: 'base' is the name of one card; found {base!r}.")
    if base is None:
        return data
    parent = _inherit(_base_path(path.parent, base), (*below, path))
    # Weights and where they come from are never inherited: a derived card is another model.
    return merge({k: v for k, v in parent.items() if k not in ("checkpoint", "sha256", "source")}, data)


def _base_path(folder: Path, base: str) -> Path:
    """The card called `base` in a folder, else the shipped one."""
    places = {path.stem: path for place in (cards_folder(), folder) for path in place.glob("*.yaml")}
    if base not in places:
        raise UnknownNameError("base card", base, places)
    return places[base]


def check_device(device: str) -> None:
    """Makes sure that tensors can be put on a device before hours are spent on it.

    Raises:
        DeviceError: if it is not the name of a device, or this machine does not have it.
    """
    if device == "cpu":
        return
    import torch

    try:
        usable = torch.device(device).type != "meta"  # which holds no values
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: a build without CUDA
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise DeviceError(f"The device '{device}' cannot be used: {reason}. Give cpu, cuda or cuda:1.") from None
    if not usable:
        raise DeviceError(f"The device '{device}' cannot be used: it holds no values. Give cpu, cuda or cuda:1.")


def load_model(name: str | Path, *, device: str = "cpu") -> Model:
    """The model of a card, ready to evaluate.

    Args:
        name: a card by name, or the path of a card or of a checkpoint folder.
        device: such as `cpu` or `cuda:1`.

    Raises:
        CheckpointError: if the weights are absent, altered or refused.
        DeviceError: if this machine does not have the device.
        OptionError: if `name` is neither a name nor a path.
    """
    if not isinstance(name, str | Path):
        raise OptionError(f"A model is named by a card or by a path; found {name!r}.")
    # A path object is a path even without a slash, which a name has not.
    card = read_card(str(name.absolute()) if isinstance(name, Path) else name)
    check_device(device)
    return adapter_registry().load(card.adapter)(card, device=device)
