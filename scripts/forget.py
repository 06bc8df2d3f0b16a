#!/usr/bin/env python
"""Remove users from everything that was made of a log, prove it by a search, and say what was trained with them.

    scripts/forget.py configs/shop.yaml u0013                            # ids as in the raw log; killed, the same command goes on
    scripts/forget.py configs/shop.yaml u0013 --outputs lists.parquet    # also files outside of the run's folder
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["forget", *sys.argv[1:]]))
