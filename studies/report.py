"""The figure and the tables of the documentation, from the study's results."""

import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
RESULTS = HERE / "tilt.json"
FIGURE = HERE.parent / "docs" / "assets" / "tilt_study.png"

# Okabe and Ito's colours, apart for colour-blind readers; markers tell the lines apart as well.
ORANGE, SKY, GREEN, BLUE, RED, PINK = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
Line = tuple[str, str, str, str, str]
"""Method, form, label, colour, and marker with line style."""
PANELS: dict[str, list[Line]] = {
    "fine-tuned or weighted flows": [
        ("qam", "family, T = 10", "QAM, T = 10", BLUE, "o--"),
        ("qam", "family, T = 50", "QAM, T = 50", BLUE, "o-"),
        ("bam", "family, T = 10", "BAM, T = 10", ORANGE, "s--"),
        ("bam", "family, T = 50", "BAM, T = 50", ORANGE, "s-"),
        ("trqam", "family, T = 10", "TRQAM, T = 10", SKY, "D--"),
        ("fawac", "family, T = 50", "FAWAC, T = 50", GREEN, "^-"),
        ("fbrac", "network, T = 10", "FBRAC, T = 10", RED, "v--"),
        ("preflow", "network, delta = 0.1, P = 4", "PReFlow, P = 4", PINK, "P--"),
    ],
    "guided flows": [
        ("cgql", "c = 0.1, T = 10", "CGQL, T = 10", RED, "v--"),
        ("cgql", "c = 0.1, T = 200", "CGQL, T = 200", RED, "v-"),
        ("cgql_mse", "c = 0.1, T = 10", "CGQL-MSE, T = 10", ORANGE, "s--"),
        ("cgql_mse", "c = 0.1, T = 200", "CGQL-MSE, T = 200", ORANGE, "s-"),
        ("cgql_linex", "c = 0.1, T = 10", "CGQL-Linex, T = 10", PINK, "D--"),
        ("cgql_linex", "c = 0.1, T = 200", "CGQL-Linex, T = 200", PINK, "D-"),
        (
            "cgql_linex",
            "soft maximum at beta, c = 0.001, T = 200",
            "Linex value at β, c → 0, T = 200",
            GREEN,
            "^-",
        ),
    ],
    "diffusion": [
        ("qsm", "network, N = 10", "QSM, network, N = 10", RED, "v--"),
        ("qsm", "minimiser, w = 10, N = 200", "QSM, exact, N = 200", RED, "v-"),
        ("dac", "network, N = 10", "DAC, network, N = 10", BLUE, "o--"),
        ("dac", "minimiser, N = 200", "DAC, exact, N = 200", BLUE, "o-"),
    ],
}
REFERENCES = {
    "behaviour": ("behaviour itself", "#555555", (0, (6, 2))),
    "exact velocity, T = 10": ("exact velocity, T = 10", "#888888", "dashdot"),
    "exact noise predictor, N = 10": ("exact noise predictor, N = 10", "#888888", "dashdot"),
    "second sample": ("a second sample", "#888888", "dotted"),
}
NAMES = {"qam": "QAM", "bam": "BAM", "trqam": "TRQAM", "fawac": "FAWAC", "fbrac": "FBRAC"} | {
    "preflow": "PReFlow",
    "cgql": "CGQL",
    "cgql_mse": "CGQL-MSE",
    "cgql_linex": "CGQL-Linex",
    "qsm": "QSM",
    "dac": "DAC",
    "fql": "FQL",
    "qam_fql": "QAM-FQL",
    "fedit": "FEdit",
    "qam_edit": "QAM-EDIT",
    "trqam_edit": "TRQAM-EDIT",
    "dsrl": "DSRL",
    "ifql": "IFQL",
    "qgf": "QGF",
    "rebrac": "ReBRAC",
    "rlpd": "RLPD",
    "rql": "RQL",
}


def at_own_strength(variant: dict, betas: list[float]) -> list[float] | None:
    """The distance to each tilted law of the run that is meant for it; None if none is meant."""
    runs = {run["beta"]: run["distances"] for run in variant["runs"]}
    if not set(betas) <= set(runs):
        return None
    return [runs[beta][i] for i, beta in enumerate(betas)]


def draw_figure(results: dict, path: Path) -> None:
    """Distance over inverse temperature, a panel for each family of methods."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 6.2), sharey=True, layout="constrained")
    for axes, (title, lines) in zip(panels, PANELS.items(), strict=True):
        _draw_panel(axes, results, lines, "diffusion" in title)
        axes.set_title(title)
    panels[0].set_ylabel("energy distance to the tilted law")
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _draw_panel(axes: Axes, results: dict, lines: list[Line], diffusion: bool) -> None:
    betas = results["betas"]
    kind = "velocity, T" if diffusion else "noise predictor, N"
    for name, (label, colour, style) in REFERENCES.items():
        if name != f"exact {kind} = 10":
            axes.plot(betas, results["references"][name], color=colour, ls=style, label=label)
    variants = {(v["method"], v["form"]): v for v in results["variants"]}
    for method, form, label, colour, style in lines:
        own = at_own_strength(variants[method, form], betas)
        assert own is not None, f"{method} has no run that is meant for a beta"
        fill = colour if style.endswith("-") and not style.endswith("--") else "white"
        axes.plot(betas, own, style, color=colour, mfc=fill, ms=5.5, lw=1.6, label=label)
    axes.set(xscale="log", yscale="log", xlabel="inverse temperature β", ylim=(0.009, 1.3))
    axes.set_xticks(betas, [f"{beta:g}" for beta in betas], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8.5, frameon=False)


def table(header: list[str], rows: Iterator[list[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    lines = [header, ["---", "---", *["---:"] * 4, *["---"] * (len(header) - 6)], *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def own_strength_rows(results: dict) -> Iterator[list[str]]:
    """What has no bias, then every form of a method with an inverse temperature."""
    for name, distances in results["references"].items():
        yield [f"*{name}*", "", *(f"{d:.3f}" for d in distances)]
    for variant in results["variants"]:
        own = at_own_strength(variant, results["betas"])
        if own is not None:
            name = NAMES[variant["method"]]
            yield [name, variant["form"], *(f"{d:.3f}" for d in own)]


def any_strength_rows(results: dict) -> Iterator[list[str]]:
    """Every form of every method, the strength chosen for each tilted law by the distance."""
    middle = results["betas"].index(3.0)
    for variant in results["variants"]:
        nearest = [
            min(variant["runs"], key=lambda run: run["distances"][i])
            for i in range(len(results["betas"]))
        ]
        distances = (f"{run['distances'][i]:.3f}" for i, run in enumerate(nearest))
        name = NAMES[variant["method"]]
        yield [name, variant["form"], *distances, nearest[middle]["strength"]]


def main() -> None:
    """Draws the figure and writes the tables."""
    results = json.loads(RESULTS.read_text())
    draw_figure(results, FIGURE)
    header = ["method", "form", *(f"β = {beta:g}" for beta in results["betas"])]
    own, nearest = HERE / "tilt_own_strength.md", HERE / "tilt_any_strength.md"
    own.write_text(table(header, own_strength_rows(results)))
    nearest.write_text(table([*header, "strength for β = 3"], any_strength_rows(results)))


if __name__ == "__main__":
    main()
