#!/usr/bin/env python
"""Metrics of trained seeds and baselines on the test split, into one JSON file.

    scripts/evaluate.py configs/movielens.yaml --seeds 0 1 --out results/movielens.json
    scripts/evaluate.py configs/movielens.yaml --seeds 0 1 --strategies --out results/strategies.json  # lists, not predictions
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
