"""`python -m recllm prepare configs/shop.yaml`."""

import sys

from recllm.cli import main

sys.exit(main())
