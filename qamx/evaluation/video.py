"""`qamx video`: episodes of a run's policy as MP4 and GIF."""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from qamx._utils.machine import use_cpu
from qamx._utils.terminal import Progress
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.envs.rendering import Image
from qamx.errors import UserError
from qamx.evaluation.evaluate import (
    EvaluationOptions,
    EvaluationResult,
    experiment_of,
    play,
    roles_for,
)
from qamx.evaluation.frames import Encoder, Gif, Grid, Mp4, require_packages
from qamx.evaluation.policy_source import PolicySource
from qamx.evaluation.replay import EpisodeReplay, check_draws, choose_backend

FORMATS = (".mp4", ".gif")
USUAL_RATE = 20.0
"""Steps a second of an environment without a rate."""
WIDEST = 6
"""The limit of cells in a row."""


def video(
    directory: Path, options: EvaluationOptions, out: Path | None, size: int, fps: float | None
) -> int:
    """Writes videos of a run's policy.

    **Raises:** `UserError` for a run, task, number or file that cannot be, and if nothing can be
    drawn.
    """
    if not 64 <= size <= 2048:
        raise UserError(f"--size: found {size}; write a number of pixels from 64 to 2048")
    if fps is not None and not 0.1 <= fps <= 240:
        raise UserError(f"--fps: found {fps:g}; write images a second from 0.1 to 240, e.g. 20")
    require_packages()
    if options.episodes is None:
        options = dataclasses.replace(options, episodes=1 if len(options.tasks) > 1 else 4)
    use_cpu()
    files = _files(out, directory)
    settings = experiment_of(directory).environment
    trouble = choose_backend(required=not isinstance(settings, GymnasiumEnvironmentSettings))
    sources = options.open_each(directory)
    environments = sources[0].for_tasks(options.tasks)
    check_draws(sources[0], environments[0], size, trouble)
    seed = options.seed_for(sources[0])
    # The clone of the data has no strength: it plays once.
    roles = [roles_for(source, options.behaviour and source is sources[0]) for source in sources]
    results = [
        [
            result
            for source, played in zip(sources, roles, strict=True)
            for result in play(source, environment, played, seed)
        ]
        for environment in environments
    ]
    with _cells(results, size) as cells:
        grid = Grid(cells, _columns(sources[0], len(results), len(results[0])), size)
        rate = fps or cells[0].steps_per_second or USUAL_RATE
        write_videos(files, rate, cells, grid)
    solved = sum(cell.episode.success for cell in cells)
    for file in files:
        logging.getLogger("qamx").info(
            f"{file}: {solved} of {len(cells)} episodes solved, {rate:g} steps a second, "
            f"{file.stat().st_size / 1000:,.0f} kB"
        )
    return 0


def _files(out: Path | None, directory: Path) -> list[Path]:
    """The files to write: in the format of `out`'s suffix, or in both."""
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
def _cells(
    results: Sequence[Sequence[EvaluationResult]], size: int
) -> Iterator[list[EpisodeReplay]]:
    """Every episode, task by task; the policies of a seed are neighbours."""
    cells: list[EpisodeReplay] = []
    try:
        for of_task in results:
            for index in range(len(of_task[0].episodes)):
                for result in of_task:
                    cells.append(EpisodeReplay(result, result.episodes[index], size))
        yield cells
    finally:
        for cell in cells:
            cell.close()


def _columns(source: PolicySource, tasks: int, policies: int) -> int:
    """Cells in a row: a row a task, or nearly a square of one task's episodes."""
    episodes = source.evaluation.episodes
    across = episodes if tasks > 1 else math.ceil(math.sqrt(episodes / policies))
    return policies * max(1, min(across, WIDEST // policies))


def _lockstep(
    cells: Sequence[EpisodeReplay], grid: Grid, every: int
) -> Iterator[tuple[int, Image]]:
    """The grid at every `every`-th step, and at the end of the longest episode."""
    step = 0
    yield step, grid.image()
    while not all(cell.over for cell in cells):
        step += 1
        for cell in cells:
            cell.advance()
        if step % every == 0 or all(cell.over for cell in cells):
            yield step, grid.image()


def write_videos(
    files: Sequence[Path], rate: float, cells: Sequence[EpisodeReplay], grid: Grid
) -> None:
    """Replays the episodes into the files, which appear when all images are drawn.

    **Raises:** `UserError` for a file that cannot be written.
    """
    steps = max(cell.episode.length for cell in cells)
    encoders: dict[Path, Encoder] = {}
    with contextlib.ExitStack() as unfinished:
        for file in files:
            with _writing(file):
                encoder = Mp4(file, rate) if file.suffix == ".mp4" else Gif(file, rate, steps)
            unfinished.callback(encoder.discard)
            encoders[file] = encoder
        every = min(encoder.every for encoder in encoders.values())
        progress = unfinished.enter_context(Progress(steps, unit="steps"))
        for step, image in _lockstep(cells, grid, every):
            progress.advance(step, "drawing")
            for file, encoder in encoders.items():
                with _writing(file):
                    encoder.add(step, image)
        for file, encoder in encoders.items():
            with _writing(file):
                encoder.close()
        unfinished.pop_all()


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Names the file in an encoder's `OSError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error})") from error
