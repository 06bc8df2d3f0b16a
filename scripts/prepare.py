#!/usr/bin/env python
"""Clean, join, order and split a raw log.

    scripts/prepare.py configs/movielens.yaml            # writes runs/movielens/prepared, prints counts per rule and label rates
    scripts/prepare.py configs/movielens.yaml --check    # only validates; the first 20 problems with their line numbers
    scripts/prepare.py my.yaml --append day3.csv         # adds a day to a log that is split by dates; late rows are kept out
    scripts/prepare.py my.yaml --append day3.csv --rewrite    # old and new files in full, late rows included
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
