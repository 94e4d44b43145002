"""The direction of imports: read from the source, so that a lazy import inside a function counts too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(p for folder in ("harness", "tasks", "models") for p in (ROOT / folder).rglob("*.py"))

#: From the bottom up: a module imports nothing above its own layer. Every module of `harness/` is named by its package
#: or its own name.
LAYERS = (
    {"errors", "files", "progress", "version"},
    {"config", "checksums", "code", "database", "segments", "registry"},
    {"corpora", "speech"},
    {"results", "figures", "task", "model"},
    {"metrics", "stats"},
    {"engine"},
    {"training"},
    {"evaluation"},
    {"report"},
    {"tracking", "testing", "lm_eval_bridge"},
    {"sweep"},
    {"by_name"},
    {"doctor", "cli"},
    {"__init__", "__main__"},
)
GIANTS = {"mlflow": "harness/tracking/", "optuna": "harness/sweep/", "lm_eval": "harness/lm_eval_bridge.py"}


def layer(module: str) -> int | None:
    """The height of `harness.<name>[.…]`; `harness` itself is its `__init__`."""
    name = module.split(".")[1] if "." in module else "__init__"
    return next((height for height, names in enumerate(LAYERS) if name in names), None)


def imports(source: str, module: str) -> set[str]:
    """Absolute names of everything a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def offences(path: Path, source: str) -> list[str]:
    """Every import of a file (named relative to the root) that goes the wrong way."""
    module = ".".join(path.with_suffix("").parts)
    return [f"{path} imports {name}" for name in sorted(imports(source, module)) if not allowed(path, module, name)]


def allowed(path: Path, module: str, name: str) -> bool:
    """Whether `module`, in the file `path`, may import `name`."""
    top, own = name.split(".")[0], path.parts[0]
    if top in GIANTS:
        return path.as_posix().startswith(GIANTS[top])
    if top in ("tasks", "models", "sweeps"):
        return own == top and own != "harness"  # a relative import of a sibling
    if top != "harness":
        return True
    if name.split(".")[1:2] in (["tasks"], ["models"], ["sweeps"]):
        return False
    if own != "harness":
        return name.split(".")[1:2] not in (["cli"], ["__main__"])
    mine, theirs = layer(module), layer(name)
    return mine is not None and theirs is not None and theirs <= mine


@pytest.mark.parametrize("path", CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_direction(path):
    assert offences(path.relative_to(ROOT), path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", [p for p in CODE if p.is_relative_to(ROOT / "harness")], ids=lambda p: p.stem)
def test_every_module_has_a_layer(path):
    assert layer(".".join(path.relative_to(ROOT).with_suffix("").parts)) is not None


def test_a_module_without_a_layer_may_import_nothing_of_the_package():
    assert offences(Path("harness/helpers.py"), "from harness.errors import InputError")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("harness/errors.py", "from harness.segments import Text"),
        ("harness/metrics/ner.py", "from harness.engine.scoring import score"),
        ("harness/evaluation/evaluate.py", "def f():\n    import mlflow"),
        ("harness/sweep/study.py", "from lm_eval.api import model"),
        ("harness/engine/scoring.py", "from harness import evaluate"),
        ("harness/registry.py", "import harness.tasks.cra"),
        ("harness/registry.py", "from harness import tasks"),
        ("tasks/cra.py", "from harness.models.sutlm import MODEL"),
        ("tasks/cra.py", "from models.sutlm import MODEL"),
        ("tasks/cra.py", "from harness.tasks.pelm import TASK"),
        ("models/sutlm.py", "from tasks import cra"),
        ("models/sutlm.py", "import optuna"),
    ],
)
def test_a_wrong_direction_is_an_offence(path, source):
    assert len(offences(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("harness/tracking/storage.py", "import mlflow.tracking"),
        ("harness/metrics/ner.py", "from ..segments import Text"),
        ("tasks/cra.py", "from harness.engine.scoring import score\nfrom . import _shared\nfrom ._shared import pairs"),
        ("harness/cli/main.py", "import torch\nfrom harness.evaluation import evaluate"),
    ],
)
def test_the_right_direction_is_not(path, source):
    assert offences(Path(path), source) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "tasks"], ["list", "models"], ["show", "sutlm-tiny"]], ids=" ".join
)
def test_help_list_and_show_import_no_giant(arguments):
    giants = {"torch", "transformers", "mlflow", "optuna", "lm_eval", "numpy", "scipy"}
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        f"try:\n    status = main({arguments!r})\nexcept SystemExit as end:\n    status = end.code\n"
        f"print(status or 0, sorted({giants!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 []"
