"""`harness sweep`: finds the best mixture of training formats."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_device_and_set, command, positive
from harness.cli.printing import ProgressBar, print_json, say


def _sweep_run(a: argparse.Namespace) -> int:
    from harness.config import merge, parse_settings
    from harness.sweep.run import Launch, run_sweep
    from harness.sweep.spec import read_spec
    from harness.sweep.status import status
    from harness.tracking.config import load_tracking_config

    asked = {} if a.trials is None else {"trials": a.trials}
    spec = read_spec(a.spec, merge(parse_settings(a.set), asked))
    folder = Path(a.output) if a.output else Path("results") / "sweeps" / spec.name
    launch = Launch(
        workers=a.workers,
        launcher=a.launcher,
        slurm=tuple(a.slurm),
        device=a.device,
        track=not a.no_tracking,
        nproc=a.nproc,
    )
    with ProgressBar(a) as progress:
        sweep = run_sweep(
            spec, folder, load_tracking_config(), launch, progress=progress.update, say=lambda line: say(a, line)
        )
    say(a, f"sweep in {folder}; read it with: harness sweep report {folder}")
    _print_status(a, status(sweep))
    return 0


def _sweep_worker(a: argparse.Namespace) -> int:
    from harness.sweep.signals import TerminatedError
    from harness.sweep.study import open_sweep
    from harness.sweep.worker import Worker
    from harness.tracking.config import load_tracking_config

    sweep = open_sweep(Path(a.folder), load_tracking_config())
    worker = Worker(sweep, device=a.device, track=not a.no_tracking, nproc=a.nproc, say=lambda line: say(a, line))
    try:
        number = worker.run()
    except TerminatedError:
        say(a, "stopped on request; the trial in hand waits for another worker")
        return 0
    say(a, f"{number} trials done by this worker")
    return 0


def _sweep_status(a: argparse.Namespace) -> int:
    from harness.sweep.status import status
    from harness.sweep.study import open_sweep
    from harness.tracking.config import load_tracking_config

    _print_status(a, status(open_sweep(Path(a.folder), load_tracking_config())))
    return 0


def _print_status(a: argparse.Namespace, state: dict[str, Any]) -> None:
    if a.json:
        print_json(state)
        return
    from harness.sweep.simplex import describe

    states = ", ".join(f"{number} {name.lower()}" for name, number in state["states"].items())
    print(f"{state['sweep']}: {state['done']} of {state['asked']} trials done ({states or 'none begun'})")
    for key, best in state["best"].items():
        mixture = describe(list(best["mixture"].values()), list(best["mixture"]))
        print(f"best {key} {best['value']:.4g} in trial {best['trial']}: {mixture}")


def _sweep_report(a: argparse.Namespace) -> int:
    from harness.sweep.run import report_sweep
    from harness.sweep.study import open_sweep
    from harness.tracking.config import load_tracking_config

    sweep = open_sweep(Path(a.folder), load_tracking_config())
    written = report_sweep(sweep, Path(a.output) if a.output else None, track=not a.no_tracking)
    if a.json:
        print_json(written.summary)
    else:
        print(written.text)
    say(a, f"report in {written.folder}")
    return 0


def _sweep_export(a: argparse.Namespace) -> int:
    from harness.sweep.export import export
    from harness.sweep.status import outcomes
    from harness.sweep.study import open_sweep
    from harness.tracking.config import load_tracking_config

    sweep = open_sweep(Path(a.folder), load_tracking_config())
    for path in export(sweep.plan, outcomes(sweep), Path(a.output or a.folder)):
        print(path)
    return 0


def add_sweep(commands: Any) -> None:
    """Adds the parser of `harness sweep`."""
    actions = commands.add_parser("sweep", help="find the best mixture of training formats").add_subparsers(
        metavar="ACTION", required=True
    )
    run = command(
        actions, "run", _sweep_run, "train and evaluate a proxy on many mixtures; the same command resumes",
        "harness sweep run mixing-demo --workers 2 --output out/sweep",
    )  # fmt: skip
    run.add_argument("spec", help="sweep by name, or path to its YAML")
    run.add_argument("--workers", type=positive, default=1, metavar="K", help="processes or jobs (default: 1)")
    run.add_argument("--trials", type=positive, metavar="N", help="designed and adaptive ones (default: the sweep's)")
    run.add_argument("--output", metavar="DIR", help="folder of the sweep (default: results/sweeps/<name>)")
    run.add_argument("--launcher", choices=("local", "slurm"), default="local", help="of workers (default: local)")
    run.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE",
        help="parameter of submitit, such as slurm_partition=gpu; may be repeated",
    )  # fmt: skip
    run.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    add_device_and_set(run, "part of the sweep, such as tokens=1000000")
    worker = command(
        actions, "worker", _sweep_worker, "join a sweep that is running, from this or another machine",
        "harness sweep worker out/sweep",
    )  # fmt: skip
    worker.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")
    status = command(
        actions, "status", _sweep_status, "say where a sweep stands", "harness sweep status out/sweep --json"
    )
    report = command(
        actions, "report", _sweep_report, "write response surfaces, best mixtures and comparisons",
        "harness sweep report out/sweep",
    )  # fmt: skip
    report.add_argument("--output", metavar="DIR", help="folder of the report (default: DIR/report of the sweep)")
    export = command(
        actions, "export", _sweep_export, "write ratios.csv and metrics.csv", "harness sweep export out/sweep"
    )
    export.add_argument("--output", metavar="DIR", help="folder of the tables (default: the sweep's)")
    for parser in (run, worker):
        parser.add_argument(
            "--nproc", type=positive, default=1, metavar="K",
            help="processes of a trial, which is then a torchrun job on one machine (default: 1)",
        )  # fmt: skip
    for parser in (worker, report):
        parser.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    for parser in (worker, status, report, export):
        parser.add_argument("folder", help="folder of the sweep")
