"""A MovieLens of three users and an encoder of six thin layers: everything that is measured, in seconds."""

import random
from pathlib import Path
from typing import Any

from tests.speed.encoder import MINILM

SHAPE: dict[str, Any] = {**MINILM, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 200}
START = 880_000_000


def write_log(folder: Path, users: int = 3, events: int = 300, items: int = 30) -> Path:
    """Ratings in bursts, many within the same second, from seconds to days apart; in no order."""
    rng, lines = random.Random(0), []
    for user in range(1, users + 1):
        now = START + user * 1_000
        for _ in range(events):
            now += rng.choice([0, 0, 7, 90, 4_000, 90_000])
            lines.append(f"{user}\t{rng.randrange(1, items + 1)}\t{rng.randrange(1, 6)}\t{now}")
    lines = list({tuple(line.split("\t")[k] for k in (0, 1, 3)): line for line in lines}.values())  # no film twice in a second
    rng.shuffle(lines)
    return write(folder, lines, [f"{k}\tFilm {k}\t{1950 + k}\t{' '.join(rng.sample(['Drama', 'War', 'Comedy'], 1 + k % 3))}"
                                 for k in range(1, items + 1)], [f"{user}\t{20 + user}\tF\twriter\t0" for user in range(1, users + 1)])


def write(folder: Path, log: list[str], items: list[str], users: list[str]) -> Path:
    """The three files with RecBole's headers."""
    folder.mkdir(parents=True, exist_ok=True)
    heads = {"inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float",
             "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
             "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"}  # fmt: skip
    for (kind, head), lines in zip(heads.items(), (log, items, users), strict=True):
        (folder / f"ml-100k.{kind}").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return folder
