"""`qamx compare`: whether runs agree with the published figures, or with other runs."""

from collections.abc import Sequence
from pathlib import Path

from qamx._utils.terminal import print_table
from qamx.errors import ExitCode, UserError
from qamx.studies import rendering
from qamx.studies.comparison import LEVEL, Comparison, Row, against_published, against_runs
from qamx.studies.grouping import paired
from qamx.studies.reference import SOURCE
from qamx.studies.runs import Run, read_runs
from qamx.studies.tables import Cell, Table, percent

PUBLISHED = "published"
"""What `--against` says for the figures that come with the package."""


def compare(
    folders: Sequence[Path], against: str | None, step: int | None, out: Path | None
) -> int:
    """Prints how runs compare; with `out`, writes tables and the curves of both sides there.

    **Arguments:** `against` is `published` or a folder of runs; without it two folders are
    compared with each other, and any other number with the published figures.

    **Returns:** 0 if no row differs, 1 if one does.

    **Raises:** `UserError` if nothing can be compared.
    """
    if against is None and len(folders) == 2:
        folders, against = folders[:1], str(folders[1])
    runs = read_runs(folders)
    other = None if against in (None, PUBLISHED) else read_runs([Path(str(against))])
    if other is None:
        comparison, theirs = against_published(runs, step), f"published, {SOURCE}"
    else:
        comparison, theirs = against_runs(paired(runs, other), step), str(against)
    if not comparison.rows:
        raise UserError("nothing to compare:\n" + "\n".join(comparison.notes))
    found = table(comparison, f"{', '.join(map(str, folders))} against {theirs}")
    if out is not None:
        _write(out, comparison, found, runs, other)
    rendering.show(found)
    _print_notes(comparison)
    print(_verdict(comparison.rows))
    if out is not None:
        print(f"written to {out}")
    return ExitCode.FAILED if any(row.differs for row in comparison.rows) else ExitCode.DONE


def table(comparison: Comparison, title: str) -> Table:
    """The rows of a comparison; a star or bold marks those that differ."""
    with_runs = comparison.rows[0].better is not None
    header = ("method", "tasks", "step", "ours", "seeds", "theirs", "seeds")
    header += (
        "difference",
        "P(ours is better)" if with_runs else "inside",
        "p (corrected)",
        "verdict",
    )
    return Table(title, header, tuple(_cells(row) for row in comparison.rows))


def _cells(row: Row) -> tuple[Cell, ...]:
    last = ("yes" if row.inside else "no") if row.better is None else percent(row.better)
    texts = (
        row.label,
        row.group,
        f"{row.step:,}",
        percent(row.ours),
        str(row.ours.runs),
        percent(row.theirs),
        str(row.theirs.runs),
        _signed(row),
        last,
        f"{row.adjusted:.3f}",
    )
    return (*map(Cell, texts), Cell("differs" if row.differs else "compatible", row.differs))


def _signed(row: Row) -> str:
    value, low, high = (round(100 * end) for end in (row.gap.value, row.gap.low, row.gap.high))
    return f"{value:+d} [{low:+d}, {high:+d}]"


def _print_notes(comparison: Comparison) -> None:
    if comparison.notes:
        print_table("not compared", ("",), [(note,) for note in comparison.notes])


def _verdict(rows: Sequence[Row]) -> str:
    different = sum(row.differs for row in rows)
    told = f"{different} of {len(rows)} differ" if different else f"none of {len(rows)} differs"
    return (
        f"{told} (p below {LEVEL}, corrected for the number of rows; the test counts the seeds of "
        "both sides)"
    )


def _write(
    out: Path,
    comparison: Comparison,
    found: Table,
    runs: Sequence[Run],
    other: Sequence[Run] | None,
) -> None:
    from qamx.studies.figures import save
    from qamx.studies.overlay import overlay

    figure = overlay(comparison.rows, runs, other)
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.md").write_text(rendering.markdown(found, level=1), encoding="utf-8")
    (out / "comparison.csv").write_text(_comma_separated(comparison.rows), encoding="utf-8")
    save(figure, out, "curves")


def _comma_separated(rows: Sequence[Row]) -> str:
    header = "method,group,step,seeds,mean,ci95_low,ci95_high,other_seeds,other_mean,"
    lines = [header + "other_ci95_low,other_ci95_high,difference,p,p_corrected,inside,differs"]
    for row in rows:
        numbers = [
            f"{one.runs},{one.value:.4f},{one.low:.4f},{one.high:.4f}"
            for one in (row.ours, row.theirs)
        ]
        tests = f"{row.gap.value:.4f},{row.p:.4g},{row.adjusted:.4g},{row.inside},{row.differs}"
        lines.append(",".join((row.label, row.group, str(row.step), *numbers, tests)))
    return "\n".join(lines) + "\n"
