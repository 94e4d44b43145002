"""Speed of the scoring engine against lm-eval's HFLM: same model object, same token ids, same batch budget.

Rounds are paired: within a round every side scores the same pairs, in alternating order, and ratios are taken within
the round, so that a machine that others use at the same time changes both sides. Prints Markdown: speed and peak memory
on a random model and on a shipped one, and what the row store takes (`benchmarks/store.py`).

    .venv/bin/python benchmarks/scoring.py --quick
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import OPTConfig, OPTForCausalLM

from harness.corpora.corpus import open_corpus
from harness.engine.scoring import Scorer
from harness.engine.work import Work
from harness.model import Hidden, Model, load_model
from harness.segments import Text
from harness.task import Answer, Ranking, RankScore, Request, task_registry

#: Prompt and continuation tokens by direction.
SHAPES = {"u2u": (100, 60), "u2t": (250, 30), "t2u": (30, 250), "t2t": (30, 30)}
SIDES = ("hflm", "full", "pruned", "pruned by pmi")
CARD = "sutlm-tiny"
TIE = 1e-4
#: Random models attend too weakly for prompts to matter, and position tells them more than it tells trained ones.
_ATTENTION_GAIN, _PLACE_GAIN = 20.0, 0.1


class BenchModel:
    """A decoder of transformers as a model of the harness; segments are texts of token numbers."""

    def __init__(self, module: OPTForCausalLM) -> None:
        self.module, self.device = module.eval(), torch.device("cpu")
        self.card, self.fingerprint, self.modalities = None, "benchmark", frozenset({"text"})
        self.max_length = module.config.max_position_embeddings

    def prepare(self, segments: object) -> None:
        """Does nothing."""
        pass

    def encode_prompt(self, prompt: tuple[Text, ...], target: str) -> list[int]:
        """Ids written as text."""
        return [int(i) for i in prompt[0].text.split()]

    def encode_prior(self, source: str, target: str) -> list[int]:
        """The start alone."""
        return [2]

    def encode_continuation(self, segment: Text) -> list[int]:
        """Ids written as text."""
        return [int(i) for i in segment.text.split()]

    def forward(self, ids: torch.Tensor, *, lengths: torch.Tensor | None = None) -> Hidden:
        """Final states `(batch, time, width)`."""
        mask = None if lengths is None else (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return Hidden(self.module.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Next-token logits."""
        return self.module.lm_head(states)


def random_model(layers: int, width: int, vocabulary: int, sharpness: float) -> BenchModel:
    """An OPT decoder with random weights; `sharpness` is about the standard deviation of its logits.

    Attention is strengthened and position weakened, so that what comes next depends on the prompt as it does in a
    trained model: golds drawn from it are retrieved, and others lose from their first tokens on.
    """
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=vocabulary, hidden_size=width, word_embed_proj_dim=width, num_hidden_layers=layers,
        ffn_dim=4 * width, num_attention_heads=max(1, width // 64), max_position_embeddings=512,
    )  # fmt: skip
    module = OPTForCausalLM(config)
    with torch.no_grad():
        for layer in module.model.decoder.layers:
            layer.self_attn.out_proj.weight.mul_(_ATTENTION_GAIN)
        module.model.decoder.embed_positions.weight.mul_(_PLACE_GAIN)
        module.model.decoder.final_layer_norm.weight.fill_(sharpness / (0.02 * width**0.5))
    return BenchModel(module)


@torch.inference_mode()
def golds(model: BenchModel, prompts: torch.Tensor, length: int) -> torch.Tensor:
    """Continuations `(prompts, length)` drawn from the model itself, so that it retrieves them."""
    past, ids, drawn = None, prompts, []
    for _ in range(length):
        out = model.module(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past, ids = out.past_key_values, torch.multinomial(out.logits[:, -1].softmax(-1), 1)
        drawn.append(ids)
    return torch.cat(drawn, 1)


@dataclass
class Case:
    """Prompts × candidates of one direction, with the request for the likelihoods without a prompt."""

    name: str
    requests: list[Request]
    prior: Request
    budget: int

    @classmethod
    def draw(cls, name: str, model: BenchModel, n: int, num_prompts: int, budget: int) -> Case:
        """`n` prompts of random tokens with continuations that the model drew; the first `num_prompts` are asked."""
        prompt, continuation = SHAPES[name]
        torch.manual_seed(1)
        prompts = torch.randint(4, model.module.config.vocab_size, (n, prompt))
        texts = [Text(" ".join(map(str, row))) for row in golds(model, prompts, continuation).tolist()]
        pool, everything, extents = tuple(texts), tuple(range(n)), (1.0,) * n
        scores = (
            RankScore(tolerance=TIE), RankScore("tokens"), RankScore(extents), RankScore(prior="prior", tolerance=TIE)
        )  # fmt: skip
        asked = [
            Request(f"{i}", (Text(" ".join(map(str, p))),), "text", "text", pool, everything, Ranking(i, scores))
            for i, p in enumerate(prompts[:num_prompts].tolist())
        ]
        prior = Request("prior", (), "text", "text", pool, everything)
        return cls(f"{name} {prompt}/{continuation}", asked, prior, budget)

    @classmethod
    def of_card(cls, direction: str, model: Model, n: int, num_prompts: int, budget: int) -> Case:
        """CRA on the card's corpus: the first `num_prompts` of `n` prompts × all `n` continuations."""
        task = task_registry().load("cra")
        options = task.Options(directions=(direction,))
        examples = task.examples(open_corpus(model.card.corpus, "test"), options, limit=n, seed=0)
        prior, *asked = task.requests(examples, options, modalities=model.modalities)
        model.prepare([*prior.pool, *(s for r in asked for s in r.prompt)])
        prompt = np.mean([len(model.encode_prompt(r.prompt, r.target)) for r in asked])
        continuation = np.mean([len(model.encode_continuation(s)) for s in prior.pool])
        return cls(f"{direction} {prompt:.0f}/{continuation:.0f}", asked[:num_prompts], prior, budget)

    def known(self, model: Model) -> dict[str, Answer]:
        """The likelihoods without a prompt, which no side is timed for."""
        return {request.id: answer for request, answer in Scorer(model).answer([self.prior])}


def hflm(model: Model, case: Case) -> Callable[[], np.ndarray]:
    """lm-eval's scorer on all pairs; offline, without a tokenizer of its own."""
    from lm_eval.models.huggingface import HFLM  # noqa: TID251 - the peer measured against
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<s>": 0})), eos_token="<s>", pad_token="<s>")
    pool = [model.encode_continuation(s) for s in case.requests[0].pool]
    pairs = [(("", ""), model.encode_prompt(r.prompt, r.target), c) for r in case.requests for c in pool]
    rows = max(1, case.budget // max(len(p) + len(c) for _, p, c in pairs))
    lm = HFLM(pretrained=model.module, tokenizer=words, batch_size=rows, device="cpu", max_length=model.max_length)

    def run() -> np.ndarray:
        return np.array([x for x, _ in lm._loglikelihood_tokens(pairs, disable_tqdm=True)]).reshape(-1, len(pool))

    return run


def ours(model: Model, case: Case, name: str, works: list[Work]) -> Callable[[], np.ndarray]:
    """The engine on the same pairs."""
    known, requests = case.known(model), case.requests
    if name == "pruned by pmi":
        requests = [replace(r, ranking=Ranking(r.ranking.gold, r.ranking.scores[-1:])) for r in requests if r.ranking]

    def run() -> np.ndarray:
        scorer = Scorer(model, batch_tokens=case.budget, prune=name != "full")
        values = np.stack([a.values for _, a in scorer.answer(requests, known=known)])
        works.append(scorer.work)
        return values

    return run


def side(name: str, model: Model, case: Case, works: list[Work]) -> Callable[[], np.ndarray]:
    """A call that scores the case by one side."""
    return hflm(model, case) if name == "hflm" else ours(model, case, name, works)


@dataclass
class Timing:
    """Seconds of one call."""

    wall: float
    cpu: float


def timed(run: Callable[[], np.ndarray]) -> tuple[Timing, np.ndarray]:
    """Seconds of a call, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    values = run()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu), values


def spread(values: list[float]) -> str:
    """Median with range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def matmul_peak(rounds: int = 5) -> float:
    """FLOP/s of the best of some large matrix products."""
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    best = min(timed(lambda: a @ b)[0].cpu for _ in range(rounds))
    return 2 * 1536**3 / best


def flops(model: Model, work: Work) -> float:
    """Of the linear layers and logits that the engine computed (every token read predicts one; prompts do not)."""
    config = model.module.config  # type: ignore[union-attr]
    body = 12 * config.num_hidden_layers * config.hidden_size**2
    return 2.0 * work.tokens * body + 2.0 * work.logit_rows * config.hidden_size * config.vocab_size


def bench(model: Model, case: Case, rounds: int) -> list[str]:
    """Rows of the table of one shape."""
    works: dict[str, list[Work]] = {name: [] for name in SIDES}
    [answer] = case.known(model).values()
    prior = {name: answer.values if name == "pruned by pmi" else np.zeros(1) for name in SIDES}  # type: ignore[union-attr]
    runs = {name: side(name, model, case, works[name]) for name in SIDES}
    times: dict[str, list[Timing]] = {name: [] for name in SIDES}
    values: dict[str, np.ndarray] = {}
    peak = 0.0
    for i in range(rounds):
        for name in SIDES if i % 2 == 0 else reversed(SIDES):
            timing, values[name] = timed(runs[name])
            times[name].append(timing)
            peak = max(peak, matmul_peak())
    rows = []
    for name in SIDES[1:]:
        wall = [a.wall / b.wall for a, b in zip(times["hflm"], times[name], strict=True)]
        cpu = [a.cpu / b.cpu for a, b in zip(times["hflm"], times[name], strict=True)]
        work = works[name][-1]
        speed = flops(model, work) / min(t.cpu for t in times[name]) / peak
        cells = [
            case.name,
            name,
            spread(wall),
            spread(cpu),
            f"{work.tokens / work.pair_tokens:.2f}",
            f"{work.tokens / work.floor:.2f}",
            f"{candidates_read(case, work):.0%}",
            f"{speed:.0%} of {peak / 1e9:.0f}",
            agreement(case, values["hflm"] - prior[name], values[name] - prior[name], name),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def candidates_read(case: Case, work: Work) -> float:
    """Share of the candidates' tokens that were read, those of a prompt's candidates that begin alike once."""
    prompts = (work.pair_tokens - work.candidate_tokens) / len(case.requests[0].chosen)
    return (work.tokens - prompts) / work.candidate_tokens


def agreement(case: Case, expected: np.ndarray, found: np.ndarray, name: str) -> str:
    """Largest relative difference of scores, and how many golds have the same rank by them."""
    golds = [r.ranking.gold for r in case.requests if r.ranking]
    ranks = [[int((v > v[g] + TIE).sum()) for v, g in zip(values, golds, strict=True)] for values in (expected, found)]
    same = f"{sum(a == b for a, b in zip(*ranks, strict=True))}/{len(golds)} ranks"
    first = f"R@1 {np.mean([r == 0 for r in ranks[0]]):.2f}"
    return f"{same}, {first}" if name != "full" else f"{np.max(np.abs(found / expected - 1)):.0e}, {same}"


def memory(arguments: argparse.Namespace, name: str, processes: int = 3) -> list[list[float]]:
    """Peak MiB of one side at each shape, beyond those of the loaded model, in each of some processes.

    glibc gives back at once what is freed there; else what it happens to keep is measured too.
    """
    kept = ("card", "layers", "width", "vocabulary", "budget", "n", "sharpness", "shapes")
    options = [f"--{k}={v}" for k in kept if (v := getattr(arguments, k)) is not None]
    command = [sys.executable, __file__, f"--measure={name}", f"--prompts={min(arguments.prompts, 2)}", *options]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(processes)
    ]
    peaks = zip(*(json.loads(d.stdout.splitlines()[-1]) for d in done), strict=True)
    return [[size / 2**20 for size in of_shape] for of_shape in peaks]


def measure(arguments: argparse.Namespace) -> None:
    """Prints the peak bytes of one side. A tiny run beforehand takes what is taken once, imports above all."""
    model, peaks = the_model(arguments), []
    warm = random_model(1, 64, 100, 1.0)
    side(arguments.measure, warm, Case.draw("t2t", warm, 2, 1, 64), [])()
    for shape in arguments.shapes.split(","):
        run = side(arguments.measure, model, the_case(arguments, model, shape), [])
        # glibc keeps what was freed, and a shape would find its memory in what the one before it left.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        # Linux: the peak starts anew, at what is held now. (ru_maxrss would be the parent's, which exec hands down.)
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak_kib()
        run()
        peaks.append((_peak_kib() - before) * 1024)
        del run
        gc.collect()
    print(json.dumps(peaks))


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def the_model(arguments: argparse.Namespace) -> Model:
    """The model that the arguments name."""
    if arguments.card != "random":
        return load_model(arguments.card)
    return random_model(arguments.layers, arguments.width, arguments.vocabulary, arguments.sharpness)  # type: ignore[return-value]


def the_case(arguments: argparse.Namespace, model: Model, shape: str) -> Case:
    """Prompts and candidates that the arguments ask for."""
    draw = Case.draw if arguments.card == "random" else Case.of_card
    return draw(shape, model, arguments.n, arguments.prompts, arguments.budget)


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few candidates, three rounds")
    parser.add_argument("--card", help="only CRA of this card on its corpus (`random`: only a random model)")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--vocabulary", type=int, default=12000)
    parser.add_argument("--budget", type=int, default=4096, help="tokens per batch, of both sides")
    parser.add_argument("--n", type=int, help="candidates per prompt (random: 64, quick 24; of a card: 100)")
    parser.add_argument("--prompts", type=int, help="prompts asked (8; quick: random 3, of a card 6)")
    parser.add_argument("--rounds", type=int, help="paired rounds (5; quick: 3)")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--sharpness", type=float, default=4.0, help="standard deviation of the random model's logits")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory tables")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments)
        return
    for card in [arguments.card] if arguments.card else ["random", CARD]:
        report(with_sizes(arguments, card))
    if not arguments.card:
        from benchmarks import store

        store.report(CARD, 20 if arguments.quick else 60)


def with_sizes(arguments: argparse.Namespace, card: str) -> argparse.Namespace:
    """The arguments for one model, with the sizes that were left open."""
    random = card == "random"
    sizes = {"n": (64, 24) if random else (100, 100), "prompts": (8, 3) if random else (8, 6), "rounds": (5, 3)}
    found = {k: getattr(arguments, k) or v[arguments.quick] for k, v in sizes.items()}
    return argparse.Namespace(**{**vars(arguments), **found, "card": card})


def report(arguments: argparse.Namespace) -> None:
    """Prints the tables of one model."""
    model = the_model(arguments)
    sizes = f"random OPT {arguments.layers} × {arguments.width}, vocabulary {arguments.vocabulary}"
    print(
        f"\n{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {torch.get_num_threads()} threads; "
        f"{sizes if arguments.card == 'random' else arguments.card}, {arguments.prompts} prompts × {arguments.n} "
        f"candidates, {arguments.budget} tokens per batch, {arguments.rounds} paired rounds. Medians with ranges; × "
        "means faster than HFLM.\n"
    )
    columns = (
        "shape",
        "engine",
        "× wall",
        "× CPU time",
        "tokens ÷ pairs'",
        "tokens ÷ floor",
        "candidates read",
        "of matmul GFLOP/s",
        "as HFLM",
    )
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name in arguments.shapes.split(","):
        print(*bench(model, the_case(arguments, model, name), arguments.rounds), sep="\n", flush=True)
    if not arguments.no_memory:
        peaks = [memory(arguments, name) for name in SIDES]
        print("\n| shape | " + " | ".join(f"{name}, MiB" for name in SIDES) + " |\n" + "|---" * (1 + len(SIDES)) + "|")
        for name, *cells in zip(arguments.shapes.split(","), *peaks, strict=True):
            shown = [f"{statistics.median(c):.0f} ({min(c):.0f}–{max(c):.0f})" for c in cells]
            print(f"| {name} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
