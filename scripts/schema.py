#!/usr/bin/env python
"""Propose a configuration for a raw log: what each column is, why, and what is unsure.

    scripts/schema.py log.csv                                                   # writes log.yaml, which scripts/prepare.py takes as it is
    scripts/schema.py log.csv --items items.csv --users users.csv --out configs/shop.yaml
    scripts/schema.py 'sqlite:///shop.db?table=events'; scripts/schema.py 'logs/*.csv.gz' --encoding cp1252     # any source that data takes
                                                   # ends with 1 where the user, item, time or outcome cannot be told: fill in its line
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["schema", *sys.argv[1:]]))
