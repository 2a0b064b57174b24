"""An interrupt stays one, whatever is made of it on its way out."""
import signal
import threading

import pytest

from crossspec_ros.interrupts import interruptible


def amid_a_binding(sign: signal.Signals) -> None:
    """What pybind11 does with an exception of a conversion: it raises its own in its place."""
    try:
        signal.raise_signal(sign)
    except BaseException:  # noqa: B036 - that is what it does
        pass
    raise RuntimeError('Unable to convert call argument')


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM])
def test_interrupt_amid_a_binding_is_an_interrupt(sign):
    before = signal.getsignal(sign)
    with pytest.raises(KeyboardInterrupt), interruptible(signal.SIGINT, signal.SIGTERM):
        amid_a_binding(sign)
    assert signal.getsignal(sign) is before


def test_interrupt_by_itself():
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match='of its own'), interruptible():
        raise RuntimeError('of its own')


def test_interruptible_in_another_thread_leaves_handlers_alone():
    seen, before = [], signal.getsignal(signal.SIGINT)

    def work():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
