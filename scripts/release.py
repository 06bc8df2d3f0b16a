#!/usr/bin/env python
"""Write a folder that transformers loads without recllm.

    scripts/release.py configs/movielens.yaml
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["release", *sys.argv[1:]]))
