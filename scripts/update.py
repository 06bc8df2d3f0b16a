#!/usr/bin/env python
"""Stale, updated and retrained models, day by day: what fresh data is worth, and what it costs.

    scripts/update.py configs/ads.yaml --days 2025-03-28 2025-03-29 2025-03-30 --seeds 0 1 --out results/update.json

Killed, it goes on when called again; finished trainings lie under $RECLLM_RUNS and are reused.
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["update", *sys.argv[1:]]))
