import os
import signal
from multiprocessing import active_children

import pytest

from iddpm.data.loader import read_ahead
from iddpm.runtime.errors import WorkerLost
from tests.data.deliveries import Deliveries

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking among threads


def read(step):
    return step * step


def steps_of(read, stop=6, workers=2, timeout=60.0):
    return read_ahead(read, range(stop), workers=workers, timeout=timeout)


def test_steps_come_in_order_and_workers_leave():
    assert list(steps_of(read)) == [0, 1, 4, 9, 16, 25]
    assert not active_children()


def test_an_abandoned_loader_ends_its_workers():
    steps = steps_of(read, stop=1000)
    assert next(steps) == 0
    assert len(active_children()) == 2
    steps.close()
    assert not active_children()


def killed(number, deliveries):
    def read(step):
        if step == 3:
            deliveries.wait_for(3)
            os.kill(os.getpid(), number)
        return step

    return read


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, "memory"), (signal.SIGBUS, "shm"), (signal.SIGSEGV, "")]
)
def test_a_killed_worker_is_named_and_what_came_before_it_comes(number, cause, monkeypatch):
    seen, deliveries = [], Deliveries(monkeypatch)
    with pytest.raises(
        WorkerLost, match=rf"data worker 1 of 2 was killed by {number.name}.*{cause}"
    ):
        seen.extend(steps_of(killed(number, deliveries)))
    assert seen == [0, 1, 2]
    assert not active_children()


def test_a_dead_worker_raises_where_data_is_read_and_nowhere_else():
    """The training step goes on undisturbed until it needs the next batch."""
    steps = steps_of(read, stop=1000)
    assert next(steps) == 0
    for process in active_children():
        process.kill()
        process.join()  # SIGCHLD comes, and nothing happens
    with pytest.raises(WorkerLost, match="SIGKILL"):
        list(steps)


def test_a_worker_that_leaves_by_itself_is_named():
    with pytest.raises(WorkerLost, match="exited with status 3"):
        list(steps_of(lambda step: os._exit(3)))


def test_a_hung_worker_ends_the_wait(monkeypatch):
    deliveries = Deliveries(monkeypatch, patient_until=3)

    def read(step):
        if step == 3:
            deliveries.wait_for(10**6)
        return step

    seen = []
    with pytest.raises(WorkerLost, match=r"no data came from 2 workers in 4 seconds"):
        seen.extend(steps_of(read, timeout=4))
    assert seen == [0, 1, 2]
    assert deliveries.looks.value == 5  # one when the wait began, and one each second
    assert not active_children()


def test_a_slow_worker_is_waited_for(monkeypatch):
    deliveries = Deliveries(monkeypatch)

    def read(step):
        deliveries.wait_for_looks(4 * (step + 1))
        return step

    assert list(steps_of(read, stop=3, workers=1)) == [0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_leave_signals_to_the_training_process(number):
    steps = steps_of(read, stop=30)
    assert next(steps) == 0
    for process in active_children():
        os.kill(process.pid, number)
    assert list(steps) == [step * step for step in range(1, 30)]


def test_errors_for_a_user_come_as_they_are():
    def read(step):
        raise ValueError(f"no picture {step}")

    with pytest.raises(ValueError, match=r"^no picture 0$"):
        list(steps_of(read))


def test_errors_of_ours_keep_their_kind():
    def read(step):
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        list(steps_of(read))
