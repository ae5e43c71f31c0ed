"""Jobs run in their order; one that fails, crashes, hangs or is cancelled holds up no other."""

import os

import pytest

from iddpm.ui import job_queue
from iddpm.ui.actions.sample_action import SampleAction
from iddpm.ui.job_queue import JobQueue
from tests.conftest import wait_until
from tests.ui.stand_ins import CRASH, FAIL, GARBAGE, OTHER, SLOW, hang, work


@pytest.fixture
def queue(tmp_path):
    changes = []
    queue = JobQueue(tmp_path, lambda job: changes.append((job.number, job.state)), work)
    queue.changes = changes
    yield queue
    queue.close()


def add(queue, seed=0, device="auto"):
    return queue.add(SampleAction(run="a", seed=seed, device=device), queue.root / "a")


def process_of(job):
    return int(job.lines[0].split()[1])


def test_jobs_run_in_their_order_and_what_fails_or_crashes_is_a_message(queue):
    jobs = [add(queue, seed) for seed in (1, FAIL, 2, CRASH, 3)]
    wait_until(lambda: all(job.ended for job in jobs))
    assert [job.state for job in jobs] == ["done", "failed", "done", "failed", "done"]
    assert jobs[1].message == "no such class"
    assert "status 3" in jobs[3].message
    assert jobs[0].picture == b"\x89PNG"
    assert jobs[0].share == 1
    assert [str(f) for f in jobs[0].files] == ["a.png"]
    starts = [number for number, state in queue.changes if state == "running"]
    assert list(dict.fromkeys(starts)) == [1, 2, 3, 4, 5]
    processes = [process_of(job) for job in jobs]
    assert len(set(processes[:4])) == 1  # one process does them all
    assert processes[4] != processes[3]  # but the one that crashed
    assert queue.active() == 0
    assert [job.number for job in queue.all()] == [5, 4, 3, 2, 1]


def test_events_that_are_malformed_end_their_job_alone(queue):
    jobs = [add(queue, seed) for seed in (GARBAGE, 1, OTHER, 2)]
    wait_until(lambda: all(job.ended for job in jobs))
    assert [job.state for job in jobs] == ["failed", "done", "failed", "done"]
    assert {jobs[0].message, jobs[2].message} == {
        "the process that computed said what nobody understands; the queue goes on with a new one"
    }


def test_jobs_are_cancelled_while_they_wait_and_while_they_run(queue):
    running, waiting, last = add(queue, SLOW), add(queue, 1), add(queue, 2)
    wait_until(lambda: running.lines)
    queue.cancel(waiting)
    assert waiting.state == "cancelled"
    queue.cancel(running)
    wait_until(lambda: last.ended)
    assert (running.state, waiting.state, last.state) == ("cancelled", "cancelled", "done")
    assert not waiting.lines  # it never ran
    queue.cancel(last)
    assert last.state == "done"


def test_a_job_that_does_not_end_is_ended_with_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(job_queue, "PATIENCE", 0.1)
    queue = JobQueue(tmp_path, lambda job: None, hang)
    job = add(queue)
    wait_until(lambda: job.state == "running")
    queue.cancel(job)
    wait_until(lambda: job.ended)
    assert job.state == "cancelled"
    queue.close()


def test_closing_ends_the_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(job_queue, "ENDING", 0.5)
    queue = JobQueue(tmp_path, lambda job: None, work)
    running, waiting = add(queue, SLOW), add(queue)
    wait_until(lambda: running.lines)
    queue.close()
    assert waiting.state == "cancelled"
    with pytest.raises(ProcessLookupError):
        os.kill(process_of(running), 0)
    with pytest.raises(ValueError, match="waiting"):
        add(queue)


def test_devices_work_beside_each_other(queue):
    first, second = add(queue, SLOW, "cpu"), add(queue, 1, "cuda")
    wait_until(lambda: second.ended and first.lines)
    assert (first.state, second.state) == ("running", "done")
    assert process_of(first) != process_of(second)
    queue.cancel(first)


def test_no_more_wait_than_the_page_can_list(queue, monkeypatch):
    monkeypatch.setattr(job_queue, "MOST_WAITING", 2)
    running = add(queue, SLOW)
    wait_until(lambda: running.lines)
    add(queue), add(queue)
    with pytest.raises(ValueError, match="2 jobs are waiting"):
        add(queue)
