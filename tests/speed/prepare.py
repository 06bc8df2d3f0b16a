"""What preparation costs, against a plain sort of the same log; and what it survives. `scripts/benchmark.py prepare` writes the figures."""

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any

from tests.speed.log import write_log
from tests.speed.measure import measured

THREADS = 2


def _pair(log: Path, memory: int, executor: str = "local") -> tuple[dict[str, Any], dict[str, Any]]:
    """(plain sort, preparation) of one log, one behind the other, in folders of their own."""
    folder = Path(mkdtemp(dir=log.parent))
    try:
        common = [str(THREADS), str(memory)]
        return (measured(["sort", str(log), str(folder / "sorted.parquet"), *common]),
                measured(["prepare", str(log), str(folder / "runs"), *common, executor]))
    finally:
        shutil.rmtree(folder)


def cost(folder: Path, events: int, memory: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Ratios of one run: medians over paired rounds of `events` rows, and of a quarter of them."""
    large, small = (write_log(folder / f"log-{n}.parquet", n) for n in (events, events // 4))
    pairs, quarters = [], []
    for k in range(rounds):
        pairs.append(_pair(large, memory))
        quarters.append(_pair(small, memory))
        say(f"round {k + 1}: {events:,} events, sort {pairs[-1][0]['cpu_s']:.1f} s CPU, prepare {pairs[-1][1]['cpu_s']:.1f} s CPU, "
            f"peak {pairs[-1][1]['peak_gb']:.2f} GB")
    heavy = _pair(write_log(folder / "heavy.parquet", events // 4, heavy=0.3), memory)[1]
    return {
        "events": events, "columns": 12, "threads": THREADS, "memory_limit_gb": memory / 1e9, "rounds": rounds,
        "cpu_ratio_to_sort": median(p["cpu_s"] / s["cpu_s"] for s, p in pairs),
        "peak_gb": max(p["peak_gb"] for _, p in pairs),
        "cost_growth": median(p["cpu_s"] / q["cpu_s"] / 4 for (_, p), (_, q) in zip(pairs, quarters, strict=True)),
        "cpu_us_per_event": median(p["cpu_s"] for _, p in pairs) / events * 1e6,
        "sort_cpu_us_per_event": median(s["cpu_s"] for s, _ in pairs) / events * 1e6,
        "bytes_out_per_in": pairs[0][1]["bytes"] / large.stat().st_size,
        "heavy_user": {"events": events // 4, "share_of_one_user": 0.3, "peak_gb": heavy["peak_gb"], "cpu_s": heavy["cpu_s"]},
        "each_round": [{"sort_cpu_s": s["cpu_s"], "prepare_cpu_s": p["cpu_s"], "sort_wall_s": s["wall_s"], "prepare_wall_s": p["wall_s"],
                        "sort_peak_gb": s["peak_gb"], "prepare_peak_gb": p["peak_gb"]} for s, p in pairs],
    }


def executors(folder: Path, events: int, memory: int) -> dict[str, float]:
    """Events per CPU second of each executor, processes of its framework included."""
    log = write_log(folder / f"log-{events}.parquet", events)
    return {name: events / _pair(log, memory, name)[1]["cpu_s"] for name in ("local", "ray", "spark")}
