"""`qamx video`: episodes of a run's policy as MP4 and GIF."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from qamx._utils.machine import use_cpu
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.envs.rendering import Image
from qamx.errors import UserError
from qamx.evaluation.evaluate import (
    EvaluationOptions,
    EvaluationResult,
    experiment_of,
    play,
    roles_for,
    settings_for,
)
from qamx.evaluation.frames import Encoder, Gif, Grid, Mp4, require_packages
from qamx.evaluation.policy_source import PolicySource
from qamx.evaluation.replay import EpisodeReplay, check_draws, choose_backend

FORMATS = (".mp4", ".gif")
USUAL_RATE = 20.0
"""Steps a second where the environment knows no rate of its own."""
WIDEST = 6
"""Cells in a row at most."""


def video(
    directory: Path, options: EvaluationOptions, out: Path | None, size: int, fps: float | None
) -> int:
    """Plays episodes of a run's policy and writes what they look like.

    **Raises:** `UserError` for a run, task, number or file that cannot be, and where nothing can
    be drawn.
    """
    _check(size, fps)
    require_packages()
    if options.episodes is None:
        options = dataclasses.replace(options, episodes=1 if len(options.tasks) > 1 else 4)
    use_cpu()
    files = _files(out, directory)
    settings = experiment_of(directory).environment
    trouble = choose_backend(required=not isinstance(settings, GymnasiumEnvironmentSettings))
    source = options.source(directory)
    environments = settings_for(source, options.tasks)
    roles = roles_for(source, options.behaviour)
    check_draws(source, environments[0], size, trouble)
    seed = source.seed if options.seed is None else options.seed
    found = [list(play(source, environment, roles, seed)) for environment in environments]
    with _cells(found, size) as cells:
        grid = Grid(cells, _columns(source, len(found), len(roles)), size)
        rate = fps or cells[0].steps_per_second or USUAL_RATE
        write_videos(files, rate, cells, grid)
    solved = sum(cell.episode.success for cell in cells)
    for file in files:
        print(
            f"{file}: {solved} of {len(cells)} episodes solved, {rate:g} steps a second, "
            f"{file.stat().st_size / 1000:,.0f} kB"
        )
    return 0


def _check(size: int, fps: float | None) -> None:
    if not 64 <= size <= 2048:
        raise UserError(f"--size: found {size}; write a number of pixels from 64 to 2048")
    if fps is not None and not 0 < fps <= 240:
        raise UserError(f"--fps: found {fps:g}; write a number of images a second, e.g. 20")


def _files(out: Path | None, directory: Path) -> list[Path]:
    """What to write: of the format that `out` ends with, or of both."""
    name = directory.resolve().name
    target = Path(name) if out is None else out / name if out.is_dir() else out
    if target.suffix in FORMATS:
        files = [target]
    elif out is not None and not out.is_dir() and target.suffix[1:].isalpha():
        raise UserError(f"--out {out}: a video is .mp4 or .gif; without either both are written")
    else:
        files = [target.with_name(target.name + suffix) for suffix in FORMATS]
    if not target.parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist; create it, or name another")
    return files


@contextlib.contextmanager
def _cells(found: Sequence[Sequence[EvaluationResult]], size: int) -> Iterator[list[EpisodeReplay]]:
    """Every episode, task by task; a policy's and its clone's of a seed are neighbours."""
    cells: list[EpisodeReplay] = []
    try:
        for of_task in found:
            for episodes in zip(*(result.episodes for result in of_task), strict=True):
                for result, episode in zip(of_task, episodes, strict=True):
                    cells.append(EpisodeReplay(result, episode, size))
        yield cells
    finally:
        for cell in cells:
            cell.close()


def _columns(source: PolicySource, tasks: int, roles: int) -> int:
    """A row a task, or nearly a square of one task's episodes; roles stay side by side."""
    episodes = source.evaluation.episodes
    wanted = episodes if tasks > 1 else math.ceil(math.sqrt(episodes / roles))
    return roles * max(1, min(wanted, WIDEST // roles))


def _lockstep(
    cells: Sequence[EpisodeReplay], grid: Grid, every: int
) -> Iterator[tuple[int, Image]]:
    """The grid after every so many steps, and at the end of the longest episode."""
    step = 0
    yield step, grid.image()
    while not all(cell.over for cell in cells):
        step += 1
        for cell in cells:
            cell.advance()
        if step % every == 0 or all(cell.over for cell in cells):
            grid.redraw()
            yield step, grid.image()


def write_videos(
    files: Sequence[Path], rate: float, cells: Sequence[EpisodeReplay], grid: Grid
) -> None:
    """Plays the episodes again into the files, which appear when all of it is drawn.

    Only what some file takes is drawn, and it is in no more than one place.

    **Raises:** `UserError` for a file that cannot be written.
    """
    steps = max(cell.episode.length for cell in cells)
    encoders: list[tuple[Path, Encoder]] = []
    with contextlib.ExitStack() as unfinished:
        for file in files:
            with _writing(file):
                encoder = Mp4(file, rate) if file.suffix == ".mp4" else Gif(file, rate, steps)
            unfinished.callback(encoder.discard)
            encoders.append((file, encoder))
        every = min(encoder.every for _, encoder in encoders)
        for step, image in _lockstep(cells, grid, every):
            for file, encoder in encoders:
                with _writing(file):
                    encoder.add(step, image)
        for file, encoder in encoders:
            with _writing(file):
                encoder.close()
        unfinished.pop_all()


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    """What the system says to an encoder is about its file; what it says to an environment that
    is drawn is not."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error})") from error
