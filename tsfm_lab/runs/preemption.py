"""Stopping in good order: a scheduler asks with a signal, the training loop answers with a checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Preempted(Exception):
    """Training stopped because it was asked to, after writing a checkpoint to go on from."""


@contextmanager
def preemption_requests(
    signals: tuple[signal.Signals, ...] = (signal.SIGUSR1, signal.SIGTERM),
) -> Iterator[Callable[[], bool]]:
    """Within the block `signals` only raise a flag; the function it yields tells whether one has come.

    A loop asks after each step and, told yes, writes its checkpoint and raises `Preempted`. The earlier handlers are
    put back at the end. Outside the main thread, where Python allows no handlers, the flag stays down.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    earlier = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
    try:
        yield asked.is_set
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
