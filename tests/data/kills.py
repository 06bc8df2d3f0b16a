"""Kills preparation at many moments and in many ways, runs the same command again, and compares with a run that nobody disturbed.

`kills(count, seed)`: SIGKILL to the main process, to all of them, or to one worker; at moments uniform over the run, aimed at each stage,
and within a rename. The child has no hook of its own: a `sitecustomize` beside it counts what `os.rename` and `os.replace` do.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

ROOT = Path(__file__).parent.parent.parent
STAGES = ("scatter", "write_tables", "gather", "write_pool", "draw_negatives", "complete", "finish")
KINDS = ("main", "all", "worker")
RENAMES = 3  # of all kills, at least
EACH = 5  # kills of a stage, at least
SHORT = {"write_tables": ["before listed-items.parquet", "after listed-users.parquet", "before write_tables-0.json"],
         "write_pool": ["before pool.npz", "after pool.npz", "before write_pool-0.json"],
         "complete": ["before items.parquet", "after item_counts.parquet", "after segments.parquet", "before complete-0.json"],
         "finish": ["after complete-0.json", "before prepared", "after prepared"]}
HOOK = '''
import os, signal

def killing(rename):
    def renamed(source, target, **keywords):
        with open(os.environ["KILL_LOG"], "a") as file:
            file.write(f"{os.path.basename(source)} {os.path.basename(target)}\\n")
        with open(os.environ["KILL_LOG"]) as file:
            lines = file.read().splitlines()
        when, place, who = os.environ.get("KILL_RENAME", "before 0 all").split()
        hit = len(lines) == int(place) if place.isdigit() else os.path.basename(target) == place
        if hit and when == "after":
            rename(source, target, **keywords)
        if hit:  # the main process leads the group
            group, number = {"all": (True, signal.SIGKILL), "main": (False, signal.SIGKILL), "term": (False, signal.SIGTERM),
                             "int": (True, signal.SIGINT), "stop": (True, signal.SIGSTOP), "worker": (None, signal.SIGKILL)}[who]
            os.kill(os.getpid(), number) if group is None else os.killpg(0, number) if group else os.kill(os.getpgrp(), number)
            if when == "after":
                return
        return rename(source, target, **keywords)
    return renamed

os.rename, os.replace = killing(os.rename), killing(os.replace)
'''


def write_log(folder: Path, rows: int, seed: int) -> list[str]:
    """A seeded log of three Parquet and two CSV files with ties, exact copies, unknown labels and rows that rules drop."""
    rng, paths = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.parquet", "b.csv", "c.parquet", "d.csv", "e.parquet"):
        n = rows // 5
        frame = pd.DataFrame({
            "user": np.char.add("u", rng.integers(0, rows // 40, n).astype(str)),
            "item": np.char.add("i", rng.zipf(1.3, n).clip(max=2000).astype(str)),
            "ts": 1_700_000_000 + rng.integers(0, 20 * 86_400, n), "device": rng.choice(["tv", "mobile", "web"], n),
            "click": rng.integers(0, 2, n), "seconds": rng.integers(-1, 600, n).astype(float)})
        frame = pd.concat([frame, frame.head(n // 50)], ignore_index=True)
        getattr(frame, "to_parquet" if name.endswith("parquet") else "to_csv")(folder / name, index=False)
        paths.append(str(folder / name))
    return paths


def write_config(path: Path, interactions: list[str], *, negatives: bool = True, **data: Any) -> Path:
    """A configuration (JSON is YAML); every stage has work where negatives are drawn within a window."""
    click = {"kind": "binary", "every_row": True} if negatives else {"kind": "binary"}
    plain = {"name": "log", "schema": {"user": "user", "item": "item", "time": "ts", "context": {"device": {}},
                                       "outcomes": {"click": click, "seconds": {"kind": "duration", "clip": 600}}},
             "data": {"interactions": interactions, "shards": 6, "workers": 2, "memory": "1GB", **data}}
    if negatives:
        plain["data"]["negatives"] = {"per_event": 2, "window": 14}
    path.write_text(json.dumps(plain), encoding="utf-8")
    return path


@dataclass
class Run:
    """A command in a session of its own; `runs` is where its folder lies."""

    config: Path
    runs: Path
    rename: str = ""  # "before|after PLACE|NAME all|main|worker|term|int|stop": the n-th rename of all, or the one that makes NAME
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        hook = self.runs.parent / "hook"
        hook.mkdir(exist_ok=True, parents=True)
        (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        self.log = hook / f"{self.runs.name}.renames"
        self.log.write_text("")
        env = {**os.environ, "RECLLM_RUNS": str(self.runs), "OMP_NUM_THREADS": "1", "KILL_LOG": str(self.log),
               "PYTHONPATH": os.pathsep.join([str(hook), str(ROOT)])} | ({"KILL_RENAME": self.rename} if self.rename else {})
        self.said = open(hook / f"{self.runs.name}.said", "w+", encoding="utf-8")
        self.begun = time.monotonic()
        self.process = subprocess.Popen([sys.executable, "-m", "recllm", "prepare", str(self.config)], env=env, cwd=ROOT,
                                        stdout=subprocess.DEVNULL, stderr=self.said, start_new_session=True,
                                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as at a terminal

    @property
    def folder(self) -> Path:
        return self.runs / "log"

    def alive(self) -> list[psutil.Process]:
        """The processes of the group, the main one first."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return sorted(found, key=lambda p: p.pid)

    def kill(self, kind: str) -> str:
        """SIGKILL. Returns whom it met: where no worker is, the main process."""
        workers = self.workers() if kind == "worker" else []
        if kind == "all":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            (random.Random(len(workers)).choice(workers) if workers else self.process).kill()
        return kind if kind != "worker" or workers else "main"

    def workers(self) -> list[psutil.Process]:
        try:
            return [p for p in psutil.Process(self.process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def end(self, seconds: float = 300) -> tuple[int, str]:
        """(exit status, stderr) of the main process."""
        code = self.process.wait(seconds)
        self.said.seek(0)
        return code, self.said.read()

    def left(self, seconds: float = 20) -> list[str]:
        """Processes of the group that are still there after so long."""
        end = time.monotonic() + seconds
        while (found := self.alive()) and time.monotonic() < end:
            time.sleep(0.02)
        return [str(p) for p in found]


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its bytes, and every folder."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder" for p in folder.rglob("*")}


def finished(folder: Path) -> dict[str, int]:
    """Finished tasks of a run, in the work folder or in the place of the old one, with the time of each marker."""
    for done in (folder / ".prepared.work" / "done", folder / "prepared" / "done"):
        if done.is_dir():
            return {p.stem: p.stat().st_mtime_ns for p in done.glob("[!.]*.json")}
    return {}


def stage_of(folder: Path, tasks: Counter[str], old: str) -> str:
    """The first stage that is not finished: of the work folder's markers, against those of a whole run. `old`: fingerprint of before."""
    if not (folder / ".prepared.work" / "fingerprint").is_file():
        here = folder / "prepared" / "fingerprint"
        return "finish" if here.is_file() and hashlib.sha256(here.read_bytes()).hexdigest() != old else "start"
    done = count(finished(folder))
    return next((s for s in STAGES[:-1] if done[s] < tasks[s]), "finish")


def count(markers: dict[str, int] | dict[str, str]) -> Counter[str]:
    return Counter(name.rpartition("-")[0] for name in markers)


@dataclass
class World:
    """One configuration: the folder of an undisturbed run, what an older one looks like, and when each stage begins."""

    config: Path
    base: Path
    old: Path
    expected: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        shutil.rmtree(self.base / "whole", ignore_errors=True)
        run, self.begins = Run(self.config, self.base / "whole"), {}
        while run.process.poll() is None:
            names = [m.rpartition("-")[0] for m in finished(run.folder)]
            if (run.folder / ".prepared.work" / "fingerprint").is_file():
                self.begins.setdefault("scatter", time.monotonic() - run.begun)
            for before, stage in zip(STAGES, STAGES[1:], strict=False):
                if before in names:
                    self.begins.setdefault(stage, time.monotonic() - run.begun)
            time.sleep(0.005)
        assert run.end()[0] == 0, run.end()[1]
        self.seconds = time.monotonic() - run.begun
        self.expected, self.renames = files(run.folder / "prepared"), len(run.log.read_text().splitlines())
        self.markers = finished(run.folder)
        self.tasks = count(self.markers)

    @property
    def stages(self) -> list[str]:
        return [s for s in STAGES if s == "finish" or self.tasks[s]]

    def stood(self, folder: Path, old: dict[str, str]) -> str:
        """Which whole folder stands after a kill: `new`, `old`, `old aside` (the next run puts it back), else `nothing`."""
        for name, place in (("", "prepared"), (" aside", ".prepared.old")):
            if (found := files(folder / place)) and found in (self.expected, old):
                return ("new" if found == self.expected else "old") + name
        return "nothing"


def strike(world: World, runs: Path, aim: dict[str, Any], old: dict[str, str]) -> dict[str, Any]:
    """Run the command once and kill it: `aim` holds a kind and a moment (seconds), a stage with a fraction of it, or a rename."""
    run = Run(world.config, runs, aim.get("rename", ""))
    if "stage" in aim:
        while run.process.poll() is None and stage_of(run.folder, world.tasks, old.get("fingerprint", "")) != aim["stage"]:
            time.sleep(0.0005)
        begins = sorted([*world.begins.values(), world.seconds])
        length = next((b for b in begins if b > world.begins[aim["stage"]]), world.seconds) - world.begins[aim["stage"]]
        time.sleep(max(length, 0.0) * aim["fraction"] * 0.7)
    elif "moment" in aim:
        time.sleep(aim["moment"])
    met = aim["kind"]
    if "rename" not in aim and run.process.poll() is None:
        met = run.kill(aim["kind"])
    code, said = run.end()
    left, moment, done = run.left(), time.monotonic() - run.begun, finished(run.folder)
    entry = {"aim": " ".join(str(aim[k]) for k in ("stage", "rename", "moment") if k in aim), "kind": met, "moment": round(moment, 2),
             "stage": stage_of(run.folder, world.tasks, old.get("fingerprint", "")), "finished": len(done),
             "stands": world.stood(run.folder, old), "killed": code != 0, "left_running": left, "traceback": "Traceback" in said}
    if "rename" in aim:
        entry["renamed"] = run.log.read_text().splitlines()[-1]
    if code > 0:  # a worker was killed, the main process says so
        entry["line"] = said.strip().splitlines()[-1]
    return entry | {"done": done}


def chain(world: World, runs: Path, aims: list[dict[str, Any]], old: Path | None = None) -> list[dict[str, Any]]:
    """Kill, run again and kill again, until the last run ends by itself; then compare. Returns an entry a kill."""
    shutil.rmtree(runs, ignore_errors=True)
    if old is not None:
        shutil.copytree(old, runs / "log" / "prepared")
    before, log = files(runs / "log" / "prepared"), []
    for aim in aims:
        log.append(strike(world, runs, aim, before))
        if not log[-1]["killed"]:
            break
    last = Run(world.config, runs)
    code, said = last.end()
    found, marked = files(last.folder / "prepared"), finished(last.folder)
    apart = sorted(name for name in found.keys() | world.expected.keys() if found.get(name) != world.expected.get(name))
    rest = sorted(p.name for p in last.folder.iterdir() if p.name != "prepared") if last.folder.exists() else ["no folder"]
    for entry in log:
        done = entry.pop("done")
        entry["redone"] = sum(marked.get(name) != moment for name, moment in done.items())
        entry["equal"], entry["leftovers"] = code == 0 and not apart, [*rest, *last.left()]
        if apart or code:
            entry["wrong"] = (apart[:8], said[-1500:])
    return log


def survived(entry: dict[str, Any], old: bool = False) -> bool:
    """Equal in the end, under half redone, nothing left over, no traceback, and never without the folder of before."""
    return (entry["equal"] and 2 * entry["redone"] < max(entry["finished"], 1) and not entry["leftovers"] and not entry["left_running"]
            and not entry["traceback"] and (entry["stands"] != "nothing" or not old))


def summary(log: list[dict[str, Any]]) -> dict[str, Any]:
    hit = [e for e in log if e["killed"]]
    return {"kills": len(hit), "kills_survived": sum(e["survived"] for e in hit), "per_stage": dict(Counter(e["stage"] for e in hit)),
            "per_kind": dict(Counter(e["kind"] for e in hit)), "during_rename": sum("renamed" in e for e in hit),
            "redone_share_max": max((e["redone"] / e["finished"] for e in hit if e["finished"]), default=0.0), "log": log}


def kills(count: int, seed: int, rows: int = 400_000, folder: Path | None = None) -> dict[str, Any]:
    """At least 3 kills within a rename, a quarter at uniform moments, the others aimed at the stages that had fewer than 5 (50 kills are
    enough for all). Returns kills, kills_survived, per_stage, per_kind, during_rename, redone_share_max and the log."""
    rng, log = random.Random(seed), []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        paths = write_log(base / "raw", rows, seed)
        older = World(write_config(base / "older.yaml", paths, negatives=False, period=600), base / "old", base)
        worlds = [World(write_config(base / f"{n}.yaml", paths, negatives=n == "drawn"), base / n, base) for n in ("drawn", "plain")]

        def record(world: World, aims: list[dict[str, Any]], old: bool) -> None:
            found = chain(world, world.base / "runs", aims, older.base / "whole" / "log" / "prepared" if old else None)
            for entry in found:
                log.append(entry | {"survived": survived(entry, old), "run": len(log)})
                print(json.dumps(log[-1]), file=sys.stderr, flush=True)

        drawn = worlds[0]
        spots = [("before prepared all", True), ("after prepared all", True), ("before .prepared.old all", True)]
        spots += [(f"{rng.choice(('before', 'after'))} {rng.randint(1, drawn.renames)} {rng.choice(('all', 'worker'))}", False)
                  for _ in range(max(RENAMES, count // 6) - len(spots))]
        for spot, old in spots[:max(count, 1)]:
            record(drawn, [{"kind": spot.split()[-1], "rename": spot}], old)
        for k in range(min(count // 4, count - len(log))):
            world = worlds[k % 2]
            moment = (k + rng.random()) / (count // 4) * (world.seconds - world.begins["scatter"]) + world.begins["scatter"] * 0.9
            record(world, [{"kind": KINDS[k % 3], "moment": round(moment, 2)}], k % 2 == 1)
        turn = 0
        while (rest := count - sum(e["killed"] for e in log)) > 0 and turn < count:
            world = worlds[turn % 4 == 3]
            so_far = Counter(e["stage"] for e in log if e["killed"])
            stages = [s for s in world.stages if so_far[s] < EACH] or world.stages
            aims = [{"kind": KINDS[(turn + k) % 3], "stage": s, "fraction": rng.random()} for k, s in enumerate(stages)]
            if turn % 2:  # a stage of some milliseconds ends before it is seen: there a rename of its own is the moment
                aims = [{"kind": "all", "rename": f"{rng.choice(SHORT[a['stage']])} all"} if a["stage"] in SHORT else a for a in aims]
            record(world, aims[:rest], turn % 4 < 2)
            turn += 1
    return summary(log)


if __name__ == "__main__":
    result = kills(int(sys.argv[1]) if len(sys.argv) > 1 else 50, int(sys.argv[2]) if len(sys.argv) > 2 else 0,
                   int(sys.argv[3]) if len(sys.argv) > 3 else 400_000)
    print(json.dumps(result, indent=1))
