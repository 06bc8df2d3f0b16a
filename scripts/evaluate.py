#!/usr/bin/env python
"""Metrics of trained seeds and baselines on the test split, into one JSON file.

    scripts/evaluate.py configs/movielens.yaml --seeds 0 1 --out results/movielens.json
    scripts/evaluate.py configs/movielens.yaml --seeds 0 1 --strategies --out results/strategies.json  # lists, not predictions
    scripts/evaluate.py configs/movielens.yaml --report report.html                    # and one page of tables and plots
    scripts/evaluate.py configs/movielens.yaml --results results/movielens.json --report report.html   # the page alone, of these figures
    scripts/evaluate.py configs/movielens.yaml --check-baseline results/movielens.json # ends with 1 where a figure has dropped
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
