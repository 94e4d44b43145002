"""A made-up result of retrieval, to be logged."""

from dataclasses import replace

from harness.results import Item, Metric, RunResult, TaskResult
from harness.task import TaskInfo

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'
INFO = TaskInfo(
    "cra",
    1,
    "retrieval",
    "this test",
    headline=("cra.u2t.pmi.r_at_1",),
    main=tuple(f"cra.{d}.pmi.r_at_1" for d in ("u2u", "u2t", "t2u", "t2t")),
)


def metric(value, **changes):
    return replace(Metric(value, n=200, higher_is_better=True, ci95=(0.4, 0.6), chance=0.005), **changes)


def result(run_id="sutlm-tiny-ab12", score=0.5):
    metrics = {f"cra.{d}.pmi.r_at_1": metric(score) for d in ("u2u", "u2t", "t2u")}
    metrics["cra.u2t.gold_nll"] = metric(3.25, ci95=None, chance=None, higher_is_better=False)
    items = [
        Item("utt-1", output="hello", scores={"nll": {"sum": 3.5, "pmi": 1.0}, "ranks": [1, 2]}),
        Item("utt-2", group="s", output="x" * 9000, failed="too long", extra={"direction": "u2t"}),
    ]
    task = TaskResult("cra", "cra|v1|corpus:demo@3fa9", metrics, 3, 2, 1, {"norm": ["pmi", "sum"], "n": 200}, items)
    protocol = {
        "run": {"seed": 0, "odd key@": True, "long": "y" * 9000},
        "model": {"card": {"training": {"mixture": {"ast": 0.25}}, "source": ""}},
        "tasks": {"cra": task.protocol},
        "versions": {"harness": "9.9", "torch": "2.11.0"},
        "git": "f00d+dirty",
    }
    model = {"name": "sutlm-tiny", "fingerprint": "9c1e"}
    return RunResult(run_id, model, {"name": "demo", "split": "test", "digest": "3fa9"}, {"cra": task}, protocol)
