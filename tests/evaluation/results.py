"""Results written by hand, as scripts/evaluate.py writes them."""


def row(metric="auc", mean=0.7, *, task="click", model="recllm", part="all", counters="fresh", width=0.02, n=1000, seeds=2):
    return {"model": model, "task": task, "metric": metric, "slice": part, "counters": counters, "mean": mean, "low": mean - width,
            "high": mean + width, "seeds": seeds, "n": n}  # fmt: skip


def results(rows=None, **more):
    """A model and one baseline on two tasks, fresh and frozen, with slices."""
    made = [row(metric, mean, model=model, counters=counters)
            for model, gain in (("recllm", 0.0), ("item-rate", -0.05)) for counters, loss in (("fresh", 0.0), ("frozen", 0.01))
            for metric, mean in (("auc", 0.75 + gain - loss), ("logloss", 0.40 - gain + loss), ("ece", 0.02 + gain / 10 + loss))]
    made += [row("mae", 12.25, task="duration", width=1.0), row("coverage", 0.79, task="duration")]
    made += [row("auc", 0.7 + k / 100, part=f"weekday={day}", n=300 - k) for k, day in enumerate(("friday", "monday", "sunday"))]
    made += [row("auc", 0.7, part=f"history={name}", n=200) for name in ("0", "1-4", "100+", "5-19")]
    made += [row("auc", 0.6, part="place=<script>alert(1)</script>", n=900), row("auc", 0.55, part="place=a=b", n=100)]
    return {"command": "scripts/results shop", "commit": "0123456789abcdef", "note": "By hand.", "seeds": [0, 1], "rows": rows or made,
            "reliability": {}, **more}
