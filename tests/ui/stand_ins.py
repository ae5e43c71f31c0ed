"""What stands in for the process that computes, in tests of the queue."""

import json
import os
import time
from multiprocessing.connection import Connection

CRASH, SLOW, FAIL, GARBAGE, OTHER = 66, 77, 88, 55, 56
"""Seeds of jobs that end their process, run until they are cancelled, fail, and send no JSON or no
event."""


def work(connection: Connection, root: str) -> None:
    """Do jobs without any arithmetic."""
    try:
        while True:
            job = json.loads(connection.recv_bytes())
            if job["do"] == "job":
                do(connection, job)
    except (EOFError, OSError):
        pass


def do(connection: Connection, job: dict) -> None:
    def say(**values: object) -> None:
        connection.send_bytes(json.dumps(values).encode())

    seed = job["values"]["seed"]
    say(event="progress", done=0, total=4)
    say(event="line", text=f"process {os.getpid()}")
    if seed == CRASH:
        os._exit(3)
    if seed in (GARBAGE, OTHER):
        connection.send_bytes(b"\xff\x00[" if seed == GARBAGE else b'["no event"]')
        return
    if seed == FAIL:
        say(event="failed", message="no such class")
        return
    if seed == SLOW:
        while not (connection.poll(0.05) and json.loads(connection.recv_bytes())["do"] == "cancel"):
            pass
        say(event="cancelled")
        return
    say(event="picture", step=1)
    connection.send_bytes(b"\x89PNG")
    say(event="progress", done=4, total=4)
    say(event="done", files=["a.png"])


def hang(connection: Connection, root: str) -> None:
    """Take a job and neither go on nor listen."""
    connection.recv_bytes()
    while True:
        time.sleep(60)
