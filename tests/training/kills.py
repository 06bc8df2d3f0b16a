"""A run that dies where a test says so."""

from contextlib import contextmanager

import pytest

from recllm.training.loop import Trainer


@contextmanager
def killed_at_its_second_evaluation(monkeypatch):
    """What runs inside is interrupted when it evaluates for the second time; afterwards evaluation is as it was."""
    evaluate, calls = Trainer._evaluate, []

    def killed(self):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        evaluate(self)

    monkeypatch.setattr(Trainer, "_evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        yield
    monkeypatch.setattr(Trainer, "_evaluate", evaluate)
