"""`harness sweep`: finds the best mixture of training formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harness.cli.arguments import Device, Json, NoTracking, Quiet, folder_option, settings_of
from harness.cli.printing import Printer, print_json

Folder = Annotated[str, typer.Argument(metavar="DIR", help="folder of the sweep")]
Processes = Annotated[
    int,
    typer.Option(
        "--nproc",
        metavar="K",
        min=1,
        help="processes of a trial, which is then a torchrun job on one machine (default: 1)",
    ),
]


def run_trials(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="sweep by name, or path to its YAML")],
    *,
    workers: Annotated[int, typer.Option("--workers", metavar="K", min=1, help="processes or jobs (default: 1)")] = 1,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", min=1, help="designed and adaptive ones (default: the sweep's)"),
    ] = None,
    output: Annotated[str | None, folder_option("folder of the sweep (default: results/sweeps/<name>)")] = None,
    launcher: Annotated[
        Literal["local", "slurm"],
        typer.Option("--launcher", metavar="LAUNCHER", help="of workers: local or slurm (default: local)"),
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm",
            metavar="KEY=VALUE",
            help="parameter of submitit, such as slurm_partition=gpu; may be repeated",
        ),
    ] = None,
    no_tracking: NoTracking = False,
    device: Device = "cpu",
    settings: Annotated[list[str] | None, settings_of("part of the sweep, such as tokens=1000000")] = None,
    nproc: Processes = 1,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train and evaluate a proxy on many mixtures; the same command resumes.

    Example:
        harness sweep run mixing-demo --workers 2 --output out/sweep
    """
    from harness.config import merge, parse_settings
    from harness.sweep.run import LaunchOptions, run_sweep
    from harness.sweep.spec import read_spec
    from harness.sweep.status import status
    from harness.tracking.config import load_tracking_config

    asked = {} if trials is None else {"trials": trials}
    found = read_spec(spec, merge(parse_settings(settings or ()), asked))
    folder = Path(output) if output else Path("results") / "sweeps" / found.name
    launch = LaunchOptions(
        workers=workers,
        launcher=launcher,
        slurm=tuple(slurm or ()),
        device=device,
        track=not no_tracking,
        nproc=nproc,
    )
    printer = Printer(json=json, quiet=quiet)
    with printer.progress() as progress:
        sweep = run_sweep(found, folder, load_tracking_config(), launch, progress=progress.update, say=printer.say)
    printer.say(f"sweep in {folder}; read it with: harness sweep report {folder}")
    _print_status(printer, status(sweep))


def work(
    folder: Folder,
    *,
    device: Device = "cpu",
    nproc: Processes = 1,
    no_tracking: NoTracking = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Join a sweep that is running, from this or another machine.

    Example:
        harness sweep worker out/sweep
    """
    from harness.sweep.signals import TerminatedError
    from harness.sweep.study import open_sweep
    from harness.sweep.worker import Worker
    from harness.tracking.config import load_tracking_config

    printer = Printer(json=json, quiet=quiet)
    sweep = open_sweep(Path(folder), load_tracking_config())
    worker = Worker(sweep, device=device, track=not no_tracking, nproc=nproc, say=printer.say)
    try:
        number = worker.run()
    except TerminatedError:
        printer.say("stopped on request; the trial in hand waits for another worker")
        return
    printer.say(f"{number} trials done by this worker")


def show_status(folder: Folder, *, json: Json = False, quiet: Quiet = False) -> None:
    """Say where a sweep stands.

    Example:
        harness sweep status out/sweep --json
    """
    from harness.sweep.status import status
    from harness.sweep.study import open_sweep
    from harness.tracking.config import load_tracking_config

    state = status(open_sweep(Path(folder), load_tracking_config()))
    _print_status(Printer(json=json, quiet=quiet), state)


def _print_status(printer: Printer, state: dict[str, Any]) -> None:
    if printer.json:
        print_json(state)
        return
    from harness.sweep.simplex import describe

    states = ", ".join(f"{number} {name.lower()}" for name, number in state["states"].items())
    print(f"{state['sweep']}: {state['done']} of {state['asked']} trials done ({states or 'none begun'})")
    for key, best in state["best"].items():
        mixture = describe(list(best["mixture"].values()), list(best["mixture"]))
        print(f"best {key} {best['value']:.4g} in trial {best['trial']}: {mixture}")


def write_report(
    folder: Folder,
    *,
    output: Annotated[str | None, folder_option("folder of the report (default: DIR/report of the sweep)")] = None,
    no_tracking: NoTracking = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write response surfaces, best mixtures and comparisons.

    Example:
        harness sweep report out/sweep
    """
    from harness.sweep.run import report_sweep
    from harness.sweep.study import open_sweep
    from harness.tracking.config import load_tracking_config

    sweep = open_sweep(Path(folder), load_tracking_config())
    report = report_sweep(sweep, Path(output) if output else None, track=not no_tracking)
    if json:
        print_json(report.summary)
    else:
        print(report.text)
    Printer(quiet=quiet).say(f"report in {report.folder}")


def export(
    folder: Folder,
    *,
    output: Annotated[str | None, folder_option("folder of the tables (default: the sweep's)")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write ratios.csv and metrics.csv.

    Example:
        harness sweep export out/sweep
    """
    from harness.sweep.export import export as write_tables
    from harness.sweep.status import trial_results
    from harness.sweep.study import open_sweep
    from harness.tracking.config import load_tracking_config

    sweep = open_sweep(Path(folder), load_tracking_config())
    for path in write_tables(sweep.plan, trial_results(sweep), Path(output or folder)):
        print(path)
