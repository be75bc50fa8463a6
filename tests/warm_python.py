"""A `python` that has imported already: each program it is asked for runs in a process forked from one that is ready.

Three quarters of a command of one step are the imports of torch, Lightning and W&B. `warm_python(...)` gives a folder
to put first on PATH; the `python` in it hands its arguments, environment, folder and streams to the process that is
ready, which forks: what runs is a process of its own, from the first line of the program to its exit code, which gets
the signals that the `python` gets. Whatever is no program of the folders starts as ever, and so do the processes of
data loaders; other ranks fork, too, those of torchrun with them. Its parent is none that the command knows: what a
process does when its parent is killed is a test for a `python` that starts as ever.

This file is also that process: python tests/warm_python.py SOCKET FOLDER_OF_THE_SOURCES
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from typing import Any

JOBS = ("fit", "evaluate", "predict", "export", "prepare", "info")
LATE = ("torch._dynamo", "wandb.sdk.launch.inputs.internal", "seglab.task.segmentation", "matplotlib.pyplot")
"""Modules that a job imports only once it runs."""

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
words = [word for word in sys.argv[1:] if word != "-u"]
here, folder = os.path.abspath(__file__), os.path.dirname(os.path.realpath(words[0] if words else ""))
if not words or not words[0].endswith(".py") or folder not in {folders!r}:
    os.environ["PYTHON_EXEC"] = here  # what torchrun starts its processes with
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
ask = dict(words=words, python=here, folder=os.getcwd(), environment=dict(os.environ))
ask = json.dumps(ask).encode()
socket.send_fds(connection, [len(ask).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(ask)
told = connection.makefile()
program = int(told.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, _: os.kill(program, number))
code = int(told.readline() or 1)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def warm_python(sources: Path, environment: Mapping[str, str], *others: Path) -> Iterator[Path]:
    """A folder with the `python` that starts at once; it ends with the context.

    Args:
        sources: folder that holds the programs and `seglab`.
        environment: as that of the commands: some of it is read by imports.
        others: further folders whose programs start at once.
    """
    folders = [str(folder.resolve()) for folder in (sources, *others)]
    with TemporaryDirectory() as place:  # the address of a socket must be short
        address, client = f"{place}/socket", Path(place, "python")
        client.write_text(CLIENT.format(python=sys.executable, address=address, folders=folders), encoding="utf-8")
        client.chmod(0o755)
        command = [sys.executable, __file__, address, str(sources)]
        own = {**environment, "OMP_NUM_THREADS": "1"}  # no thread before a fork
        with subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True) as ready:
            assert ready.stdout is not None and ready.stdout.readline() == "ready\n"
            yield Path(place)
            ready.terminate()


def serve(address: str) -> dict[str, Any]:
    """Fork for every program that is asked for; returns what to run, in the fork alone."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection = listener.accept()[0]
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                listener.close()
                return attend(connection)
            connection.close()


def attend(connection: socket.socket) -> dict[str, Any]:
    """Fork the program, and tell its exit code when it ends; returns what to run, in the fork alone."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    job: dict[str, Any] = json.loads(connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
    if program := os.fork():
        for stream in streams:
            os.close(stream)
        with suppress(BrokenPipeError):
            connection.sendall(f"{program}\n".encode())
        if select([os.pidfd_open(program), connection], [], [])[0] == [connection]:
            os.kill(program, signal.SIGKILL)  # what asked for it has been killed
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        with suppress(BrokenPipeError):
            connection.sendall(f"{code}\n".encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return job


def main(address: str, sources: str) -> None:
    """Import what the programs import, wait to be asked, and become one of them."""
    sys.path[0] = sources
    for name in (*(f"seglab.run.{job}" for job in JOBS), *LATE):
        __import__(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork keeps one thread only"
    from wandb.sdk.data_types._private import MEDIA_TMP

    MEDIA_TMP.cleanup()  # the first fork to end would take it away from the others
    gc.freeze()
    job = serve(address)
    MEDIA_TMP.__init__("wandb-media")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv, sys.executable = job["words"], job["python"]
    own = job["environment"].get("PYTHONPATH")
    sys.path[:1] = [str(Path(sys.argv[0]).resolve().parent), *(own.split(":") if own else [])]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
