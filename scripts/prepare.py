#!/usr/bin/env python
"""Clean, join, order and split a raw log.

    scripts/prepare.py configs/movielens.yaml            # writes runs/movielens/prepared, prints counts per rule and label rates
    scripts/prepare.py configs/movielens.yaml --check    # only validates; the first 20 problems with their line numbers
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
