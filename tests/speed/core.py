"""The core against a flat text cross-encoder, on real MovieLens timelines: `scripts/benchmark.py core` writes the figures.

Both sides have MiniLM's width and the same threads, and run in turn within each round. Bodies of 3 layers (shipped) and of 6 (as deep as
the flat encoder) are measured; the named ratios are of 6 layers, but for `train_ratio`. Where nobody has the longest history asked for,
the timelines of the longest two stand one behind the other.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tests.speed.encoder import load_encoder
from tests.speed.flat import SCORING_SIZES, TOKENS, TRAINING_SIZES, FlatScoring, FlatTraining, best_size
from tests.speed.matmul import Product, peak
from tests.speed.movielens import Movielens
from tests.speed.ours import Ours
from tests.speed.rounds import Call, Rounds, paired, percentiles

SHIPPED, DEEP = 3, 6
DEPTHS = (SHIPPED, DEEP)
PREFIX, WINDOW, LONGEST = 100, 199, 800  # events: of the scored prefix, of the fullest window less one, of the longest history
HISTORIES = (50, 100, 200, 400, LONGEST)
REQUESTS = {100: 100, 1_000: 50, 10_000: 20}  # candidates -> single requests that are timed
BUDGETS = (1_536, 3_072, 6_144)  # tokens of a training batch; the first is shipped
BLOCKS = (64, 128, 256, 512, 1_024, 2_048)  # candidates of one encoder call
LEAST_FLAT = 0.45  # of matrix speed; below it the flat encoder is no fair opponent
SCORED = ("score_100", "score_1000", "score_1000_cached", "request_100", "request_1000")
TEXTS = 32
Say = Callable[[str], None]


def core(folder: Path, device: torch.device, rounds: int, say: Say) -> dict[str, Any]:
    """All figures of one run. Raises FileNotFoundError where MovieLens is missing."""
    encoder, tokenizer = load_encoder()
    data = Movielens(folder, encoder, tokenizer)
    user = data.longest(LONGEST)
    say(f"user of {len(data.users[user].item)} events; {'MiniLM' if tokenizer else 'random weights and random token ids of its shape'}")
    sides = {layers: Ours(data, encoder, layers, device, user) for layers in DEPTHS}
    scoring, training = _flat(data, encoder, device, user)
    score_size, score_rates = best_size(scoring, SCORING_SIZES, 16)
    train_size, train_rates = best_size(training, TRAINING_SIZES, 8)
    say(f"flat: batches of {score_size} scored, of {train_size} trained")
    budgets = {layers: _budget(side, say) for layers, side in sides.items()}
    calls: dict[str, Call] = {"matmul": Product(device)}
    calls["flat"] = partial(scoring.round, score_size, max(1, TEXTS // score_size))
    calls["flat_train"] = partial(training.round, train_size, max(1, TEXTS // 2 // train_size))
    for layers, side in sides.items():
        calls |= _calls(side, layers, budgets[layers])
    found = paired(calls, rounds, say)
    flat = {"layers": encoder.config.num_hidden_layers, "tokens": TOKENS, "scoring_batch": score_size, "training_batch": train_size,
            "candidates_per_s": found.rate("flat"), "trained_per_s": found.rate("flat_train"),
            "candidates_per_s_by_batch": score_rates, "trained_per_s_by_batch": train_rates}
    return {**_headlines(found, scoring, sides), "padding": sides[SHIPPED].padding(budgets[SHIPPED]),
            "pretrained": tokenizer is not None, "events_of_the_timeline": len(data.users[user].item),
            "matmul_gflops": found.rate("matmul") / 1e9, "flat": flat,
            "layers": {str(k): _one_depth(found, side, k, budgets[k], device, say) for k, side in sides.items()},
            "rounds": rounds, "each_round": found.rates}


def void(found: dict[str, Any]) -> str | None:
    """Why a run counts for nothing, None where it counts."""
    share = found["flat_matmul_fraction"]
    if share >= LEAST_FLAT:
        return None
    return (f"void: expected the flat encoder at {LEAST_FLAT:.2f} of matrix speed or more, found {share:.2f}: ratios over a slowed "
            "opponent say nothing. Run again on a quiet machine: nothing else on its cores, --threads no more than there are")


def _flat(data: Movielens, encoder: Any, device: torch.device, user: int) -> tuple[FlatScoring, FlatTraining]:
    """The opponent, scoring the user's candidates and training on impressions that fill its 512 tokens."""
    size = encoder.config.vocab_size
    items = np.random.default_rng(0).permutation(len(data.processor.items))[:TEXTS]
    asked = torch.from_numpy(data.token_ids([(user, PREFIX, int(item)) for item in items], TOKENS, size))
    rows = [(who, int(row)) for who, _, window in data.windows() for row in window if data.visible(who)[row] >= PREFIX][:TEXTS]
    ids = data.token_ids([(who, int(data.visible(who)[row]), int(data.users[who].item[row])) for who, row in rows], TOKENS, size)
    clicks = torch.tensor([data.labels[who][row, 0] for who, row in rows])
    return FlatScoring(encoder, asked, device), FlatTraining(encoder, torch.from_numpy(ids), clicks, device)


def _budget(side: Ours, say: Say) -> int:
    """The fastest size of a training batch, as the flat encoder is given its fastest."""
    found = paired({str(budget): partial(side.train_round, budget) for budget in BUDGETS}, 1)
    say(f"{side.shape.layers} layers: " + ", ".join(f"{budget} tokens {found.rate(str(budget)):.0f} impressions/s" for budget in BUDGETS))
    return max(BUDGETS, key=lambda budget: found.rate(str(budget)))


def _calls(side: Ours, layers: int, budget: int) -> dict[str, Call]:
    """What runs in every round, of one depth."""
    found: dict[str, Call] = {
        "score_100": partial(side.score, 100, True, repeats=10), "score_1000": partial(side.score, 1_000, False, repeats=2),
        "score_1000_cached": partial(side.score, 1_000, True, repeats=2), "request_100": partial(side.request, 100, True),
        "request_1000": partial(side.request, 1_000, False), "train": partial(side.train_round, budget),
        "train_shipped_batch": partial(side.train_round, BUDGETS[0]), "recompute": partial(side.recompute, WINDOW),
    }  # fmt: skip
    found |= {f"extend_{n}": partial(side.extend, n) for n in (50, WINDOW, 400)}
    if layers == SHIPPED:  # collation does not know the depth
        found |= {"collate": partial(side.collate_round, budget), "features": partial(side.features_round, budget)}
    return {f"{name}_{layers}" if name not in ("collate", "features") else name: call for name, call in found.items()}


def _headlines(found: Rounds, scoring: FlatScoring, sides: dict[int, Ours]) -> dict[str, Any]:
    """The figures that are asked for by name."""
    return {
        "score_ratio_100": found.ratio(f"score_100_{DEEP}", "flat"), "score_ratio_1000": found.ratio(f"score_1000_{DEEP}", "flat"),
        "train_ratio": found.ratio(f"train_{SHIPPED}", "flat_train"), "train_ratio_6_layers": found.ratio(f"train_{DEEP}", "flat_train"),
        "append_ratio": found.ratio(f"extend_{WINDOW}_{DEEP}", f"recompute_{DEEP}"),
        "extension_400_over_50": found.ratio(f"extend_50_{DEEP}", f"extend_400_{DEEP}"),
        "matmul_fraction": _fraction(found, f"score_1000_{DEEP}", sides[DEEP].flop(1_000, False) / 1_000),
        "flat_matmul_fraction": _fraction(found, "flat", scoring.flop),
        "collate_events_per_s": found.rate("collate"), "features_and_collate_events_per_s": found.rate("features"),
    }  # fmt: skip


def _fraction(found: Rounds, name: str, flop: float) -> float:
    """Share of matrix speed: median over the rounds of useful FLOP/s by that of the plain product; `flop` is of one unit."""
    return flop * found.ratio(name, "matmul")


def _one_depth(found: Rounds, side: Ours, layers: int, budget: int, device: torch.device, say: Say) -> dict[str, Any]:
    """Everything of one depth: ratios over the flat encoder, rates, latencies, memory, growth."""
    each = f"_{layers}"
    to_flat = {name: found.ratio(name + each, "flat") for name in SCORED}
    to_flat |= {name: found.ratio(name + each, "flat_train") for name in ("train", "train_shipped_batch")}
    rates = {name.removesuffix(each): found.rate(name) for name in found.rates if name.endswith(each)}
    flop = {cached: side.flop(1_000, cached) for cached in (False, True)}
    top, speed = peak(device), rates["score_1000"] / 1_000
    context = len(side.ask(1_000, PREFIX).seen)
    shares = {"matmul_fraction": _fraction(found, f"score_1000{each}", flop[False] / 1_000),
              "matmul_fraction_cached": _fraction(found, f"score_1000_cached{each}", flop[True] / 1_000),
              "tokens_per_s": speed * (1_000 + context), "share_of_peak": flop[False] * speed / top if top else None}
    blocks = paired({str(size): partial(side.blocks, size) for size in BLOCKS}, 5)
    say(f"{layers} layers: single requests")
    return {"ratio_to_flat": to_flat, "per_s": rates, **shares, "training_batch_tokens": budget,
            "candidates_per_s_by_block": {size: blocks.rate(size) for size in map(str, BLOCKS)}, "seconds_of_a_request": _requests(side),
            "append_ratio": found.ratio(f"extend_{WINDOW}{each}", f"recompute{each}"),
            "extension_400_over_50": found.ratio(f"extend_50{each}", f"extend_400{each}"),
            "bytes_per_cached_prefix": {str(n): side.prefix_bytes(n) for n in (PREFIX, WINDOW)}, "by_history": _histories(side)}


def _requests(side: Ours) -> dict[str, Any]:
    """p50 and p99 of single requests by number of candidates, the prefix computed (`cold`) or cached."""
    found: dict[str, Any] = {}
    for candidates, count in REQUESTS.items():
        calls = {"cold": partial(side.request, candidates, False), "cached": partial(side.request, candidates, True)}
        for call in calls.values():
            call()
        times = [{name: call()[0] for name, call in calls.items()} for _ in range(count)]  # in turn, as in rounds
        found[str(candidates)] = {name: percentiles([pair[name] for pair in times]) for name in calls}
    return found


def _histories(side: Ours, repeats: int = 10) -> dict[str, dict[str, float]]:
    """Seconds (medians) of a request of 100 candidates as the history grows: the window keeps them bounded."""
    found = {}
    for n in HISTORIES:
        calls = {"cold": partial(side.request, 100, False, n), "cached": partial(side.request, 100, True, n)}
        for call in calls.values():
            call()
        found[str(n)] = {"events_in_window": side.ask(1, n).events,
                         **{name: median(call()[0] for _ in range(repeats)) for name, call in calls.items()}}
    return found
