#!/usr/bin/env python
"""Train click, purchase and duration jointly; alone, or as one of N processes.

    scripts/train.py configs/movielens.yaml                                   # runs/movielens/seed-0: best/, checkpoints/, log.jsonl
    scripts/train.py configs/movielens.yaml --set training.minutes=4
    scripts/train.py configs/ads.yaml --init-from runs/ads-may/release --set training.epochs=1 --set training.learning_rate=5e-4
                                                                              # a released model goes on, on the days that came since
    accelerate launch --multi_gpu --num_processes 4 scripts/train.py configs/movielens.yaml
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no \\
        --dynamo_backend no scripts/train.py configs/movielens.yaml             # two processes on a CPU
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
