"""Who draws the episodes: this process alone, or several beside it."""

import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context

from qamx.data.generate.catalogue import Dataset
from qamx.data.generate.episode import draw_episode
from qamx.data.generate.expert import Expert
from qamx.data.generate.plan import Portion
from qamx.data.generate.recipe import Episode, Recipe
from qamx.errors import UserError

Draw = Callable[[Portion], Iterator[tuple[int, Episode]]]
"""Gives a file's episodes with their indices, in the order in which they get ready."""


def build_recipe(dataset: Dataset, expert: Expert | None = None) -> Recipe:
    """The recipe of a data set, its environment built (seconds for the robot arm).

    **Arguments:** `expert` moves the walker of a data set that has one.
    """
    # The simulators take seconds to import, and listing the names needs none of them.
    from qamx.data.generate.manipulation import manipulation_recipe
    from qamx.data.generate.maze import maze_recipe

    with warnings.catch_warnings():
        # A missing display and the precision of bounds matter to no episode, yet every worker
        # would say so.
        warnings.simplefilter("ignore")
        if "maze" in dataset.environment:
            return maze_recipe(dataset, expert)
        return manipulation_recipe(dataset)


@contextmanager
def crew(dataset: Dataset, expert: Expert | None, workers: int) -> Iterator[Draw]:
    """Workers for one data set; a single worker is this process itself.

    Several are spawned processes, each with an environment of its own, so a script that asks for
    them needs the guard `if __name__ == "__main__":`. `expert` moves the walker of a data set that
    has one.

    **Raises:** `UserError` where a worker process dies.
    """
    if workers == 1:
        recipe = build_recipe(dataset, expert)
        yield lambda portion: (
            (index, draw_episode(recipe, portion, index)) for index in range(portion.episodes)
        )
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (dataset, expert))
    try:
        yield lambda portion: _as_completed(pool, portion, waiting=2 * workers)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died: use fewer workers if memory ran out, and guard the script "
            'that starts them with `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _as_completed(
    pool: ProcessPoolExecutor, portion: Portion, waiting: int
) -> Iterator[tuple[int, Episode]]:
    # Few are submitted at a time: finished episodes must not pile up beside the file's own table.
    indices = iter(range(portion.episodes))
    pending: dict[Future[Episode], int] = {}
    while True:
        for index in islice(indices, waiting - len(pending)):
            pending[pool.submit(_draw_in_worker, portion, index)] = index
        if not pending:
            return
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield pending.pop(future), future.result()


_worker_recipe: list[Recipe] = []


def _start_worker(dataset: Dataset, expert: Expert | None) -> None:
    # Ctrl-C goes to every process of the terminal; only the first one is to act on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_recipe.append(build_recipe(dataset, expert))


def _draw_in_worker(portion: Portion, index: int) -> Episode:
    return draw_episode(_worker_recipe[0], portion, index)
