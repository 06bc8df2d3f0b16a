"""What tests of training share."""

import pytest

from recllm.data.prepare import prepare
from tests.worlds import rich_config


@pytest.fixture
def tiny(tmp_path, tiny_encoder):
    config = rich_config(tmp_path, tiny_encoder)
    prepare(config)
    return config
