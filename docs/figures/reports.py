"""Writes runs simulated from the published curves, for the figures of docs/reports.md.

PYTHONPATH=tests/_support python docs/figures/reports.py runs/simulated
qamx report runs/simulated/ten --out report
cp report/figures/curves.png docs/assets/report_curves.png
qamx report runs/simulated/ten --out report --highlight qam_edit qam
chromium --headless --screenshot=docs/assets/report_page.png --window-size=900,1500 \\
    report/report.html
qamx compare runs/simulated/four --against published --out found
cp found/curves.png docs/assets/compare_curves.png
"""

import sys
from pathlib import Path

import numpy as np
from synthetic import write_seeds

from qamx.tools.results.published_results import published, steps

DOMAINS = ("cube-double-play", "puzzle-3x3-play", "scene-play")
METHODS = ("bam", "dsrl", "fedit", "fql", "ifql", "qam", "qam_edit", "qam_fql", "qsm", "rebrac")
EPISODES = 50


def simulate(folder: Path, method: str, domain: str, seeds: int, lost: float = 0.0) -> None:
    """Seeds on the domain's five tasks: each has its own offset, and binomial evaluations.

    **Arguments:** `lost` is the part of the published success that the runs miss.
    """
    rng = np.random.default_rng([METHODS.index(method), DOMAINS.index(domain)])
    means = np.array([published()[method, domain, step].mean for step in steps(method, domain)])
    means = (1 - lost) * means
    for task in range(1, 6):
        offset = rng.normal(0, 0.05, (seeds, 1))
        rates = rng.binomial(EPISODES, np.clip(means + offset * 4 * means * (1 - means), 0, 1))
        rows = [
            dict(zip(steps(method, domain), (row / EPISODES).tolist(), strict=True))
            for row in rates
        ]
        write_seeds(folder, rows, method, domain, task)


def main(folder: Path) -> None:
    """Ten methods with twelve seeds; one with four, which falls behind on the first domain."""
    for domain in DOMAINS:
        for method in METHODS:
            simulate(folder / "ten", method, domain, seeds=12)
        behind = domain == DOMAINS[0]
        simulate(folder / "four", "qam_fql", domain, 4, lost=0.25 if behind else 0.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
