"""scripts/train.py as one process of a run that is struck where STRIKE says: {"at", "n", "kind", "rank"}.

`at` is what is counted: `step`, `write` (flushes of a checkpoint: four files, the folder, its parent once renamed), `evaluation` (within
one), `epoch` (as one is planned), `finish` (as the best weights are calibrated). At its n-th the process of that `rank` strikes: `rank`
kills itself, `all` everything, `launcher` its parent, `term` and `int` ask the launcher (alone: itself) to stop, `disk` lets no file grow.
"""

import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

aim: dict[str, Any] = json.loads(os.environ.get("STRIKE", "{}"))
rank, counts = int(os.environ.get("RANK", "0")), Counter[str]()
launched = "TORCHELASTIC_RUN_ID" in os.environ


def strike() -> None:
    Path(os.environ["STRUCK"]).write_text(json.dumps({"time": time.time()}))
    kind, launcher = aim["kind"], os.getppid() if launched else os.getpid()
    if kind == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    elif kind == "all":
        for process in (*psutil.Process(launcher).children(recursive=True), psutil.Process(launcher)):
            if process.pid != os.getpid():
                process.kill()
    elif kind in ("term", "int"):
        os.kill(launcher, signal.SIGTERM if kind == "term" else signal.SIGINT)
    elif kind == "launcher":
        os.kill(launcher, signal.SIGKILL)
    if kind in ("rank", "all"):
        os.kill(os.getpid(), signal.SIGKILL)


def counted(at: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        counts[at] += 1
        if aim and rank == aim["rank"] and at == aim["at"] and counts[at] == aim["n"]:
            strike()
        return function(*args, **kwargs)

    return wrapped


if __name__ == "__main__":
    from recllm.cli import main
    from recllm.training import checkpoint, loop

    loop.Trainer._step = counted("step", loop.Trainer._step)
    loop.validation_losses = counted("evaluation", loop.validation_losses)
    loop.plan, loop.calibrate = counted("epoch", loop.plan), counted("finish", loop.calibrate)
    checkpoint.flush = counted("write", checkpoint.flush)
    sys.exit(main(["train", *sys.argv[1:]]))
