"""Playing action chunks open loop."""

import numpy as np
from jaxtyping import Float


class ChunkExecutor:
    """Hands out the actions of a chunk one by one; a new chunk is due when none is left.

    **Arguments:** `action_size` is the size of one action.
    """

    def __init__(self, action_size: int):
        self._action_size = action_size
        self.rest: Float[np.ndarray, "left act"] = self._empty()

    @property
    def needs_chunk(self) -> bool:
        """Whether the next action must come from a new chunk."""
        return len(self.rest) == 0

    def load(self, chunk: Float[np.ndarray, " dim"]) -> None:
        """Begins a flat chunk."""
        self.rest = np.asarray(chunk, np.float32).reshape(-1, self._action_size)

    def pop(self) -> Float[np.ndarray, " act"]:
        """The next action."""
        action, self.rest = self.rest[0], self.rest[1:]
        return action

    def drop(self) -> None:
        """Forgets what is left, as a reset does."""
        self.rest = self._empty()

    def _empty(self) -> Float[np.ndarray, "left act"]:
        return np.zeros((0, self._action_size), np.float32)
