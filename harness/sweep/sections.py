"""The sections of a sweep's report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.sweep.analysis import Analysis, Optimum
from harness.sweep.blocks import Block, Heading, Paragraph, TableBlock, save_figure
from harness.sweep.comparison import ENOUGH_SEEDS
from harness.sweep.figures import cost_figure, pareto_figure, shares_figure, surface_figure
from harness.sweep.simplex import describe
from harness.sweep.trial import TrialResult
from harness.task import task_registry


def opening(analysis: Analysis, dropped: Sequence[tuple[int, str]]) -> list[Block]:
    """What was run."""
    spec, swept = analysis.plan.spec, analysis.swept()
    stages = ", ".join(
        f"{sum(o.spec.stage == stage for o in analysis.results)} {word}"
        for stage, word in (
            ("design", "designed"),
            ("adaptive", "adaptive"),
            ("transfer", "in other sizes"),
            ("confirm", "confirming"),
        )
        if any(o.spec.stage == stage for o in analysis.results)
    )
    parameters = swept[0].flops / (6 * swept[0].tokens)
    blocks: list[Block] = [
        Heading(f"Sweep {spec.name}", 1),
        Paragraph(
            f"{len(analysis.results)} complete trials ({stages}) over {', '.join(spec.names)}; shares count "
            f"{spec.ratio_unit}. Proxy `{spec.card}`, size `{spec.size}`, {parameters / 1e6:.2f}M parameters, "
            f"{spec.tokens / 1e6:.2f}M tokens a trial. Evaluated on split `{spec.split}` of "
            f"`{spec.corpus or analysis.plan.cards[spec.size].corpus}`, the same items for every trial."
        ),
    ]
    if dropped:
        reasons = "; ".join(f"trial {number}: {reason}" for number, reason in dropped)
        blocks.append(Paragraph(f"{len(dropped)} trials were pruned and are in no surface. {reasons}"))
    return blocks


def optimum_sections(analysis: Analysis, folder: Path) -> list[Block]:
    """Best mixtures, how well they are known, and response surfaces."""
    names = analysis.plan.spec.names
    rows = [
        (
            key,
            describe([round(x, 3) for x in a.mixture], names),
            f"{a.value:.4g} [{a.value_ci95[0]:.4g}, {a.value_ci95[1]:.4g}]",
            f"{a.uniform:.4g}",
            f"{a.gain:.3g} [{a.gain_ci95[0]:.3g}, {a.gain_ci95[1]:.3g}]",
            f"{100 * float(np.mean(a.indifferent)):.0f} %",
            a.verdict,
        )
        for key, a in analysis.optima.items()
    ]
    blocks: list[Block] = [
        Heading("Best mixtures"),
        TableBlock(
            (
                "metric",
                "best mixture (%)",
                "surface there",
                "at uniform",
                "gain over uniform",
                "indifferent",
                "verdict",
            ),
            tuple(rows),
        ),
        Paragraph(
            "Brackets are 95 % intervals of the fitted surface, conditional on its family. A gain above 0 is better. "
            "The best mixture was chosen without the trials that confirm, and its gain is biased upwards by the "
            "choice; the surface is fitted to all trials, so that a choice due to noise may have a gain below 0. Only "
            f"a comparison over {ENOUGH_SEEDS} or more new seeds is a test. `indifferent` is the share of the allowed "
            "lattice that is not worse than the best mixture with 95 % confidence."
        ),
        Heading("How well the best shares are known", 3),
        TableBlock(("metric", *names), tuple((key, *_shares(a)) for key, a in analysis.optima.items())),
        Paragraph(
            "In per cent; brackets contain the best mixture of 95 % of the surfaces drawn from the posterior of the "
            "chosen family. They use the trials that confirm, which the choice of the best mixture did not, so that it "
            "may lie outside. The best mixtures by other families are listed under 'Which law fits'."
        ),
        *_seeds(analysis),
        *_beside(analysis),
        Heading("Response surfaces"),
    ]
    for key, optimum in analysis.optima.items():
        caption = (
            f"{key}: surface (above) and its standard deviation (below) on the faces of the simplex. Circles: trials "
            "on the face; star: best mixture; dashed: region of indifference."
        )
        blocks.append(save_figure(surface_figure(analysis, optimum), folder, f"surface-{_file(key)}.png", caption))
    return blocks


def _shares(optimum: Optimum) -> list[str]:
    return [
        f"{100 * best:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        for best, (low, high) in zip(optimum.mixture, optimum.shares_ci95, strict=True)
    ]


def _seeds(analysis: Analysis) -> list[Block]:
    rows = [_seed_row(key, a) for key, a in analysis.optima.items() if min(a.comparison.seeds) > 0]
    if not rows:
        return []
    columns = ("metric", "seeds at best / uniform", "best − uniform", "95 % interval", "p", "p, Holm")
    words = "Welch's t over seeds; corrected by Holm over the objectives, and separately over the other metrics."
    return [Heading("Confirmed by seeds", 3), TableBlock(columns, tuple(rows)), Paragraph(words)]


def _seed_row(key: str, optimum: Optimum) -> tuple[str, ...]:
    c = optimum.comparison
    interval = "too few seeds" if c.ci95 is None else f"[{c.ci95[0]:.3g}, {c.ci95[1]:.3g}]"
    difference = "" if c.difference is None else f"{c.difference:.3g}"
    p = ["" if value is None else f"{value:.2g}" for value in (c.p, c.corrected)]
    return (key, f"{c.seeds[0]} / {c.seeds[1]}", difference, interval, *p)


def _beside(analysis: Analysis) -> list[Block]:
    """Headline metrics, which may sit at chance, at the uniform mixture and at each objective's best trial."""
    keys = _headline(analysis)
    if not keys:
        return []
    swept = analysis.swept()
    uniform = np.abs(analysis.mixtures(swept) - analysis.plan.spec.uniform).max(axis=1) < 1e-6
    columns: list[tuple[str, list[TrialResult]]] = []
    if uniform.any():
        columns.append(("uniform", [o for o, at in zip(swept, uniform, strict=True) if at]))
    for objective in analysis.plan.spec.objectives:
        sign = -1.0 if analysis.plan.higher(objective) else 1.0
        best = min(swept, key=lambda o: sign * o.metrics[objective].value)
        columns.append((f"best trial for {objective}", [best]))
    rows = []
    for key in keys:
        chance = analysis.plan.chance.get(key)
        cells = [f"{np.mean([o.metrics[key].value for o in chosen]):.3f}" for _, chosen in columns]
        rows.append((key, *cells, "" if chance is None else f"{chance:.3f}"))
    return [
        Heading("Headline metrics beside them", 3),
        TableBlock(("metric", *(name for name, _ in columns), "chance"), tuple(rows)),
        Paragraph(
            "Values of single trials, for the uniform mixture a mean over its seeds; they had no effect on any choice."
        ),
    ]


def _headline(analysis: Analysis) -> list[str]:
    conditions = {tuple(key.split(".")[:2]) for key in analysis.plan.spec.objectives}
    found = []
    for task in analysis.plan.spec.tasks:
        for key in task_registry().load(task).info.headline:
            if tuple(key.split(".")[:2]) in conditions and key in analysis.plan.untrained:
                found.append(key)
    return [key for key in found if key not in analysis.optima]


def trade_offs(analysis: Analysis, folder: Path) -> list[Block]:
    """Regret, the Pareto front, and rank correlation between sizes."""
    blocks: list[Block] = []
    if len(analysis.optima) > 1:
        keys = list(analysis.optima)
        rows = tuple((key, *(f"{analysis.regret[key][other]:.3g}" for other in keys)) for key in keys)
        blocks += [
            Heading("Regret of choosing another metric's best mixture"),
            TableBlock(("metric \\ best mixture of", *keys), rows),
            Paragraph(
                "How much worse each metric is there than at its own best mixture, by its surface and in its unit."
            ),
        ]
    if len(analysis.plan.spec.objectives) > 1:
        numbers = ", ".join(str(n) for n in analysis.pareto)
        blocks += [Heading("Pareto front"), Paragraph(f"Trials that no other beats in every objective: {numbers}.")]
        blocks.append(save_figure(pareto_figure(analysis), folder, "pareto.png", "Trade-offs between objectives."))
    if analysis.transfer:
        rows = tuple(
            (size, key, f"{rho:.2f}", str(number))
            for size, table in analysis.transfer.items()
            for key, (rho, number) in table.items()
        )
        blocks += [
            Heading("Do ranks carry over to other sizes?"),
            TableBlock(("size", "metric", "Spearman's ρ", "mixtures"), rows),
        ]
    return blocks


def fits(analysis: Analysis) -> list[Block]:
    """How well every family of surfaces predicts left-out mixtures."""
    names = analysis.plan.spec.names
    rows = tuple(
        (
            key,
            row.family,
            f"{row.rmse:.3g}",
            f"{row.r2:.2f}",
            describe(a.optima_by_family[row.family], names) if row.family in a.optima_by_family else "",
            a.surface.formula(a.scale) if row.family == a.surface.name else "",
        )
        for key, a in analysis.optima.items()
        for row in a.errors
    )
    return [
        Heading("Which law fits"),
        TableBlock(("metric", "surface", "error on left-out mixtures", "R²", "its best mixture (%)", "fitted"), rows),
        Paragraph(
            "Surfaces are fitted to log(1 + (loss − best) / unit), where best is the lowest loss of the trials and "
            "unit its median distance to the others: a mixture that leaves out a part that the metric needs has a loss "
            "many times further away than all others. The error is the root mean squared error on that scale, one "
            "mixture left out at a time with all its seeds; R² is against the mean of the others. The first family of "
            "each metric is the one used. A linear surface and an exponential law always have their optimum at a "
            "vertex, whatever the data: where families of similar error disagree about the best mixture, it is less "
            f"certain than its interval. The exponential law is written in the metric's unit, over {', '.join(names)}; "
            "coefficients are those of the shares on the scale, for a quadratic followed by those of their pairwise "
            "products."
        ),
    ]


def costs(analysis: Analysis, folder: Path) -> list[Block]:
    """What the trials cost."""
    rows = analysis.results
    seconds, evaluating = [o.train_s + o.evaluate_s for o in rows], [o.evaluate_s for o in rows]
    tokens, flops, memory = [o.tokens for o in rows], [o.flops for o in rows], [o.peak_memory_bytes for o in rows]
    return [
        Heading("Cost"),
        TableBlock(
            ("", "all trials", "median trial"),
            (
                ("tokens", f"{sum(tokens):,}", f"{int(np.median(tokens)):,}"),
                ("FLOPs", f"{sum(flops):.3g}", f"{np.median(flops):.3g}"),
                ("seconds", f"{sum(seconds):,.0f}", f"{np.median(seconds):,.0f}"),
                ("of it evaluation", f"{sum(evaluating):,.0f}", f"{np.median(evaluating):,.0f}"),
                ("peak memory (MB)", "", f"{np.median(memory) / 1e6:,.0f}"),
            ),
        ),
        save_figure(cost_figure(analysis), folder, "cost.png", "Best trial so far against cost."),
        save_figure(shares_figure(rows, analysis), folder, "shares.png", "Requested and realized shares."),
    ]


def trials(analysis: Analysis) -> list[Block]:
    """Every trial."""
    names, keys = analysis.plan.spec.names, analysis.plan.spec.objectives
    rows = tuple(
        (
            str(o.spec.number),
            o.spec.stage,
            o.spec.size,
            str(o.spec.seed),
            *(f"{100 * o.spec.mixture[n]:.3g}" for n in names),
            *(f"{o.metrics[key].value:.4g}" for key in keys),
            f"{max(r['epochs'] for r in o.realized.values()):.2f}",
        )
        for o in sorted(analysis.results, key=lambda o: o.spec.number)
    )
    columns = ("trial", "stage", "size", "seed", *(f"{n} (%)" for n in names), *keys, "most epochs")
    return [Heading("Trials"), TableBlock(columns, rows)]


def _file(key: str) -> str:
    return re.sub(r"[^\w.-]+", "_", key)
