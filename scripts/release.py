#!/usr/bin/env python
"""Write a folder that transformers loads without recllm, and push it to the Hub.

    scripts/release.py configs/movielens.yaml                                          # the form that release.form says, by default full
    scripts/release.py configs/movielens.yaml --form adapter                           # a few MB: the encoder is fetched when it is loaded
    scripts/release.py configs/movielens.yaml --form merged --push me/films --dry-run  # list files and bytes
    scripts/release.py configs/movielens.yaml --push me/films --private --revision v1  # create, upload, tag; log in with: hf auth login
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["release", *sys.argv[1:]]))
