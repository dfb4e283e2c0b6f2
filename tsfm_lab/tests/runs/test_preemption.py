"""A signal asks the training loop to stop; it does not kill it."""

import os
import signal

import pytest

from tsfm_lab.runs.preemption import preemption_requests


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_raises_the_flag_and_nothing_else(number):
    with preemption_requests() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()


def test_the_earlier_handler_is_put_back():
    before = signal.getsignal(signal.SIGUSR1)
    with preemption_requests():
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before
