"""Work beside training, with failures that surface."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """One job at a time on a thread of its own; a failed one raises in who asks for it."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._job: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Waits for the job before, then starts this one."""
        self.wait()
        self._job = self._thread.submit(job)

    def check(self) -> None:
        """Raises if a job has failed meanwhile; costs next to nothing."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is left to do."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """Ends the thread after its job."""
        self._thread.shutdown()
