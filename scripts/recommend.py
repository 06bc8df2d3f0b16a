#!/usr/bin/env python
"""Lists for users of the prepared log, at a moment of your choice.

    scripts/recommend.py configs/ads.yaml --user u0042 --time 2025-03-31T21:00:00 --device tv
    scripts/recommend.py configs/ads.yaml --all-users lists.parquet --top-k 10     # killed, it goes on when called again
    scripts/recommend.py configs/ads.yaml --vectors vectors                        # items.parquet, users.parquet for FAISS and the like
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["recommend", *sys.argv[1:]]))
