"""CPU and memory of a command with everything that it starts. `python -m tests.speed.measure sort|prepare ...` is such a command."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

EVERY = 0.05  # seconds between two looks


class Tree:
    """The processes below one, looked at until it ends: peak of the resident memory of all together, CPU of each as last seen."""

    def __init__(self, pid: int) -> None:
        self.root, self.peak, self.cpu = psutil.Process(pid), 0, dict[int, float]()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.done.is_set():
            memory = 0
            try:
                for process in (self.root, *self.root.children(recursive=True)):
                    try:
                        with process.oneshot():
                            memory += process.memory_info().rss
                            times = process.cpu_times()
                        self.cpu[process.pid] = times.user + times.system
                    except psutil.Error:
                        continue
            except psutil.Error:
                return
            self.peak = max(self.peak, memory)
            self.done.wait(EVERY)


def measured(arguments: list[str]) -> dict[str, Any]:
    """Run `python -m tests.speed.measure *arguments`: cpu_s and peak_gb of the whole tree, wall_s, and what it printed last (JSON)."""
    started = time.time()
    child = subprocess.Popen([sys.executable, "-m", "tests.speed.measure", *arguments], stdout=subprocess.PIPE, text=True)
    tree = Tree(child.pid)
    out, _ = child.communicate()
    tree.done.set()
    tree.thread.join()
    if child.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}")
    said = json.loads(out.strip().splitlines()[-1])
    # what was waited for is known to the system to the tick; daemons (Ray, Spark) are only seen by looking
    return {**said, "cpu_s": max(said.pop("cpu_s"), sum(tree.cpu.values())), "peak_gb": tree.peak / 1e9, "wall_s": time.time() - started}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _sort(source: str, target: str, threads: int, memory: int) -> dict[str, Any]:
    """The floor: DuckDB reads the log, orders it by user and time, writes it with zstd."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads={threads}; SET memory_limit='{memory}B'; SET temp_directory='{target}.spill'; "
                       "SET enable_progress_bar=false")
    connection.execute(f"COPY (SELECT * FROM read_parquet('{source}') ORDER BY user_id, ts) TO '{target}' "
                       "(FORMAT parquet, COMPRESSION zstd)")
    return {"bytes": Path(target).stat().st_size}


def _prepare(source: str, target: str, threads: int, memory: int, executor: str) -> dict[str, Any]:
    from recllm.config import Config
    from recllm.data.prepare import prepare
    from tests.speed.log import SCHEMA, SPLIT

    config = Config.model_validate({"name": "benchmark", "root": target, "schema": SCHEMA, "data": {
        "interactions": source, "split": SPLIT, "workers": threads, "memory": memory, "executor": executor,
        "rules": {"max_events_per_day": 10**9}}})
    report = prepare(config, reuse=False)
    return {"rows": report.rows, "bytes": sum(p.stat().st_size for p in config.prepared.rglob("*") if p.is_file())}


if __name__ == "__main__":
    kind, source, target, threads, memory, *rest = sys.argv[1:]
    found = (_sort(source, target, int(threads), int(memory)) if kind == "sort"
             else _prepare(source, target, int(threads), int(memory), *rest))
    print(json.dumps({**found, "cpu_s": _cpu()}))
