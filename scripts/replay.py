#!/usr/bin/env python
"""Send test requests as raw dicts through the release: do they give the scores that evaluate used? Ends with 1 when they do not.

    scripts/replay.py configs/movielens.yaml --requests 1000
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["replay", *sys.argv[1:]]))
