"""A Python that has imported torch, DVC and their like already, to run the pipeline in: a fork takes a hundredth of it.

Where the pipeline runs a thousand times, for benchmarks and tests, `python3` and `dvc` are `CLIENT`, first on the PATH.
What they are told to run is run in a fork of `serve`, with the client's arguments, folder, environment and streams: a
stage finds the code of its own working copy, since none of this project is imported before. Only a stage as dvc.yaml
starts it is served, the command modelrepair, and DVC where no variable of Python's says that it should be another.
Anything else, such as a stage that a test looks into by options or that starts others like itself, is run by the real
Python, and so is everything once there is nobody to serve it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

IMPORTED = (
    "PIL.Image",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "ruamel.yaml",
    "safetensors.torch",
    "scipy.stats",
    "torch",
    # Which the first optimiser or transformation of a function imports.
    "torch._dynamo",
    "tqdm",
    # What DVC's commands import where they start, and as they run. Not pygit2: it looks for the user's settings of git
    # when it is imported.
    "celery.app.base",
    "celery.canvas",
    "dvc.cli.parser",
    "dvc.config",
    "dvc.render.match",
    "dvc.repo.brancher",
    "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.queue.workspace",
    "dvc.repo.experiments.run",
    "dvc.repo.experiments.show",
    "dvc.repo.index",
    "dvc.rwlock",
    "dvc.utils.hydra",
    "dvc.utils.strictyaml",
    "dvc_http",
    "dvc_task.app.filesystem",
    "networkx",
)
"""What stages and DVC import of other packages, as far as it takes long."""

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

words = sys.argv[1:]
known = {{"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}}
others = {{name for name in os.environ if name.startswith("PYTHON")}} - known
code = [os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(":") if place]
if os.path.basename(sys.argv[0]) == "dvc":
    alone, module, given, served = [{python!r}, {dvc!r}, *words], "dvc", words, True
else:
    alone = [{python!r}, *words]
    option, module, *given = [*(words[1:] if words[:1] == ["-P"] else words), "", ""]
    given = given[:-2]
    served = option == "-m" and (module == "modelrepair" or module.startswith("modelrepair.stages."))
    served = served and bool(code)
if not served or others or {{*{unserved!r}}} & {{*os.environ}}:
    os.execv({python!r}, alone)
server = socket.socket(socket.AF_UNIX)
try:
    server.connect({address!r})
except OSError:
    os.execv({python!r}, alone)
task = {{"module": module, "given": given, "folder": os.getcwd(), "environment": dict(os.environ), "code": code}}
task = json.dumps(task).encode()
socket.send_fds(server, [len(task).to_bytes(8, "big")], [0, 1, 2])
server.sendall(task)
fork = int.from_bytes(server.recv(8), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(fork, number))
status = server.recv(1)
if not status:
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(status[0])
"""


@contextlib.contextmanager
def warm_python(folder: Path, unserved: Sequence[str] = ()) -> Iterator[Path]:
    """A folder with a `python3` and a `dvc`, served as long as this lasts, but for who has one of these variables."""
    address, client = folder / "socket", folder / "bin/python3"
    client.parent.mkdir()
    real = Path(sys.executable)
    code = CLIENT.format(
        python=str(real),
        dvc=str(real.with_name("dvc")),
        address=str(address),
        unserved=("MODELREPAIR_PROCESSES", "RANK", *unserved),
    )
    client.write_text(code)
    client.chmod(0o755)
    client.with_name("dvc").hardlink_to(client)
    # What is compiled once is kept, whoever runs the tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Threads that spin while they wait are slow where other processes want the cores; OpenMP reads this when loaded.
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    server = subprocess.Popen([sys.executable, __file__, address], env=environment, start_new_session=True)
    try:
        while not address.exists():
            if server.poll() is not None:
                raise RuntimeError(f"the Python for stages ended with status {server.returncode}")
            time.sleep(0.05)
        yield client.parent
    finally:
        server.terminate()
        server.wait()


def serve(address: str) -> None:
    """Fork for each client, until the process that started this is gone."""
    for name in IMPORTED:
        importlib.import_module(name)
    parent = os.getppid()
    # What there is now is nobody's garbage: forks that looked for some would copy all of it.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    # The address appears when clients can connect.
    listener.bind(f"{address}.new")
    listener.listen(64)
    listener.settimeout(1)
    Path(f"{address}.new").rename(address)
    while os.getppid() == parent:
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(client)
        client.close()


def _run(client: socket.socket) -> None:
    """Do what the client is told to do in its place, and end this process."""
    client.setblocking(True)
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    task = json.loads(_received(client, int.from_bytes(size, "big")))
    # The group of all that it starts, which ends with it.
    os.setsid()
    client.sendall(os.getpid().to_bytes(8, "big"))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    os.chdir(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"])
    sys.path[:1] = task["code"]
    sys.argv[1:] = task["given"]
    # By this a stage starts others like itself.
    sys.orig_argv = [sys.executable, "-P", "-m", task["module"], *task["given"]]
    finished = threading.Event()
    threading.Thread(target=_end_with, args=(client, finished), daemon=True).start()
    status = 1
    try:
        if any(Path(place, "sitecustomize.py").is_file() for place in task["code"]):
            sys.modules.pop("sitecustomize", None)
            importlib.import_module("sitecustomize")
        runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException as error:
        # As the interpreter does: a stage may have put its own in this place.
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exc()
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    finished.set()
    client.sendall(bytes([status]))
    os._exit(status)


def _received(client: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        parts.append(client.recv(size))
        size -= len(parts[-1])
    return b"".join(parts)


def _end_with(client: socket.socket, finished: threading.Event) -> None:
    """End this process, and all that it started, where its client was killed."""
    client.recv(1)
    if not finished.is_set():
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.path[0] = ""
    serve(sys.argv[1])
