"""The replay: test requests rebuilt as raw dicts and sent through a release must give the scores that evaluate used (DESIGN 5)."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from recllm.feed.raw import RawRequests
from recllm.feed.score import score
from recllm.model.recommender_recllm import Recommender
from recllm.model.timeline_recllm import window_start
from recllm.training.setup import TEST, Setup

TOLERANCE = 1e-5  # absolute on logits, relative on seconds


@dataclass(frozen=True)
class Replay:
    """What was compared and how far the two ways are apart at worst."""

    requests: int
    logit_error: float
    seconds_error: float
    most_windows: int  # of one user
    ties: int  # requests in which rows of the same moment, not visible, were sent along
    unknown_items: int  # requests whose candidate has no catalogue entry

    @property
    def holds(self) -> bool:
        return max(self.logit_error, self.seconds_error) <= TOLERANCE

    def text(self) -> str:
        return (f"{self.requests:,} test requests: logits differ by at most {self.logit_error:.1e}, seconds by {self.seconds_error:.1e} of "
                f"their size (tolerance {TOLERANCE:.0e}); users of up to {self.most_windows} windows, {self.ties:,} requests with ties, "
                f"{self.unknown_items:,} with an item that has no entry")


def replay(made: Setup, recommender: Recommender, requests: int, seed: int = 0) -> Replay:
    """Score random test rows both ways. Histories are sent from the window's start or earlier, shuffled, invisible rows included."""
    log, raw, spec = made.log, RawRequests(made.log, made.processor), made.processor.spec
    scores = score(made.model, made.examples(TEST), 4 * made.config.training.tokens_per_batch, made.model.device)
    real = np.flatnonzero(~scores.sampled)
    rng = np.random.default_rng(seed)
    n_before, time, names = log.frame["n_before"].to_numpy(), log.time(), made.model.heads.binary
    logits, seconds, windows, ties, unknown = 0.0, 0.0, 0, 0, 0
    for index in tqdm(rng.permutation(real)[:requests], desc="replay", delay=2, leave=False):
        row = int(scores.row[index])
        n, first = int(n_before[row]), int(log.first[log.user[row]])
        length = int(log.first[log.user[row] + 1]) - first
        start = int(window_start(n, spec["stride"], spec["overlap"]))
        begin = int(rng.integers(max(0, start - 20), start + 1))
        request = raw.request([row], start=begin, end=min(length, n + 5))
        request["history"] = [request["history"][i] for i in rng.permutation(len(request["history"]))]
        found = recommender.engine.raw(recommender.reader.read(request), np.array([0]))
        logits = max(logits, *(float((found[n][0].cpu() - scores.raw[n][index]).abs()) for n in names))
        if made.config.columns.duration:
            with torch.inference_mode():
                a, b = (made.model.heads.seconds({"duration_logits": v.to(made.model.device)})["mean"]
                        for v in (found["duration_logits"][0], scores.raw["duration_logits"][index]))
            seconds = max(seconds, float((a - b).abs() / b.abs().clamp(min=1e-6)))
        windows = max(windows, start // spec["stride"] + 1)
        ties += bool((time[first + n : first + min(length, n + 5)] == time[row]).sum() > 1)
        unknown += not log.item_fields[log.item[row]]
    return Replay(min(requests, len(real)), logits, seconds, windows, ties, unknown)
