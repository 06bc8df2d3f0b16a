"""What a run writes of itself: `log.jsonl` (nothing in it depends on a clock), `timings.jsonl`, trackers, a bar, `curves.png`."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker
from tqdm import tqdm

from recllm.data.whole import whole_file
from recllm.errors import FullDiskError

LOG, TIMINGS, CURVES = "log.jsonl", "timings.jsonl", "curves.png"
BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Around the writing of a file. Raises FullDiskError where the disk does not take it."""
    try:
        yield
    except OSError as error:
        raise FullDiskError(f"{path}: expected room to write it, found {error.strerror or error}: what was written before stands; free "
                            f"some room, and the same command goes on") from None


class Record:
    """The main process's; those of the others (`main` false) write and show nothing."""

    def __init__(self, folder: Path, main: bool, trackers: list[GeneralTracker]) -> None:
        self.folder, self.main, self.trackers = folder, main, trackers
        self.started = time.monotonic()
        self.bar: Any = None
        self.first, self.impressions = 0.0, 0

    # ---- files

    def begin(self, lines: list[dict[str, Any]]) -> None:
        """Write the log as it stood at the checkpoint that the run goes on from: what came after it comes again."""
        if self.main:
            with room(self.folder / LOG), whole_file(self.folder / LOG) as part:
                part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def log(self, kind: str, **facts: Any) -> None:
        if self.main:
            self._append(LOG, {"kind": kind, **facts})

    def time(self, kind: str, step: int, seconds: float) -> None:
        """What depends on a clock or an interruption stands apart: logs of a resumed and of an uninterrupted run are equal."""
        if self.main:
            self._append(TIMINGS, {"kind": kind, "step": step, "seconds": seconds})

    def evaluation(self, record: dict[str, Any], seconds: float) -> None:
        self.log("evaluation", **record)
        self.time("evaluation", record["step"], seconds)
        values = {f"{part}/{k}": v for part in ("train", "validation") for k, v in record[part].items()}
        for tracker in self.trackers:
            tracker.log(values, step=record["step"])
        shown = ", ".join(f"{k} {v:.4f}" for k, v in record["validation"].items())
        self.say(f"step {record['step']} (epoch {record['epoch']:.2f}, {seconds:.0f} s): validation {shown}"
                 f"{'  best' if record['best'] else ''}")

    def curves(self, history: list[dict[str, Any]]) -> None:
        """Draw the run's losses, where matplotlib is installed (`recllm[report]`)."""
        from recllm.evaluation.page.figures import curves_png

        if self.main and (picture := curves_png(history)):
            with room(self.folder / CURVES), whole_file(self.folder / CURVES) as part:
                part.write_bytes(picture)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        path = self.folder / name
        with room(path):
            size = path.stat().st_size if path.exists() else 0
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError:
                if path.exists():
                    os.truncate(path, size)  # no half of a line, which the next one would follow
                raise

    # ---- screen

    def say(self, text: str) -> None:
        if self.main:
            tqdm.write(text)

    def show(self, total: int, done: int) -> None:
        """Begin the bar: steps of the whole run, of which `done` were done before."""
        if self.bar is None:
            self.bar = tqdm(total=total, initial=done, desc="training", delay=2, leave=False, disable=not self.main, bar_format=BAR)

    def step(self, loss: float, impressions: int, spent: float) -> None:
        """Move the bar; `spent` is the share of the run that is done."""
        if self.bar is None or self.bar.disable:
            return
        if not self.impressions:  # the first step of a process is a slow one: neither speed nor time left go by it
            self.started, self.first = time.monotonic(), spent
        else:
            seconds = time.monotonic() - self.started
            left = seconds * (1 - spent) / max(spent - self.first, 1e-9)
            speed = self.impressions / max(seconds, 1e-9)
            self.bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} impressions/s, {tqdm.format_interval(left)} left", refresh=False)
        self.impressions += impressions
        self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        for tracker in self.trackers:
            tracker.finish()
