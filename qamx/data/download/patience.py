"""How long a download waits for a server, and how often it comes back."""

from dataclasses import dataclass, replace

SHORT_ATTEMPTS = 3


@dataclass(frozen=True)
class Patience:
    """The limits of a download.

    **Arguments:**

    - `connect`: seconds that a server may take to accept a connection.
    - `stall`: seconds without a byte after which a connection is given up.
    - `attempts`: failures in a row after which a file is given up; an attempt that brings it
      farther than it was before begins the count anew.
    - `pause`: seconds before the second attempt; they double with each failure.
    - `longest_pause`: seconds that no pause exceeds, whatever the server asks for.
    """

    connect: float = 10.0
    stall: float = 30.0
    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0

    def shortened(self) -> "Patience":
        """The limits where there is another server to turn to."""
        return replace(self, attempts=min(self.attempts, SHORT_ATTEMPTS))

    def pause_after(self, failures: int, asked: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row, at least what the server asks for."""
        return min(max(self.pause * 2 ** (failures - 1), asked), self.longest_pause)
