#!/usr/bin/env python
"""Search for better settings on validation. Needs the extra: pip install 'recllm[tune]'

    scripts/tune.py configs/tune/shop.yaml                   # runs/shop/tune/shop: study.db, trials/, best.yaml
    scripts/tune.py configs/tune/shop.yaml --trials 60       # goes on until 60 have ended
    scripts/train.py runs/shop/tune/shop/best.yaml --again   # the best settings, trained as any configuration

Killed, it goes on when called again. Test rows play no part in it; look at them once, with the configuration that was chosen.
"""

import sys

from recllm.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
