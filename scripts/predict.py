#!/usr/bin/env python
"""The predictions for a file of requests (JSON Lines, as in README).

    scripts/predict.py configs/movielens.yaml requests.jsonl predictions.parquet
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
