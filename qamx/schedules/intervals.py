"""When periodic events of a run fall due."""


def is_due(step: int, every: int, end: int) -> bool:
    """Whether an event that comes every `every` steps, and once at `end`, falls on `step`."""
    return step % every == 0 or step == end


def next_due(step: int, intervals: tuple[int, ...], end: int) -> int:
    """The first step after `step` on which an event of any of the `intervals`, or `end`, falls."""
    return min(end, *((step // every + 1) * every for every in intervals))
