"""Tables of results/speed.json and results/training.json for README; `scripts/readme.py` puts them there."""

from typing import Any


def speed(found: dict[str, Any]) -> str:
    """recllm's core beside the flat text cross-encoder, by depth of the body."""
    depths, flat = found["layers"], found["flat"]

    def row(label: str, value: Any) -> str:
        return f"| {label} | " + " | ".join(value(depths[k]) for k in ("6", "3")) + " |"

    def rate(name: str, ratio: str, unit: str) -> Any:
        return lambda d: f"{d['per_s'][name]:,.0f} {unit}/s, {d['ratio_to_flat'][ratio]:,.0f} times"

    def wait(candidates: str, how: str) -> Any:
        return lambda d: " / ".join(f"{1000 * d['seconds_of_a_request'][candidates][how][p]:,.0f}" for p in ("p50", "p99")) + " ms"

    lines = ["| | body of 6 layers | of 3, as shipped |", "| --- | --- | --- |",
             row("100 candidates, prefix kept", rate("score_100", "score_100", "candidates")),
             row("1,000 candidates, prefix computed too", rate("score_1000", "score_1000", "candidates")),
             row("training", rate("train", "train", "impressions")),
             row("a kept prefix of 199 events and one more, over computing 200", lambda d: f"{d['append_ratio']:.1f} times"),
             row("share of a plain matrix product's speed", lambda d: f"{d['matmul_fraction']:.2f}"),
             row("request of 100 candidates, prefix kept, p50 / p99", wait("100", "cached")),
             row("of 1,000", wait("1000", "cached")), row("of 10,000", wait("10000", "cached")),
             row("bytes of a kept prefix of 100 events", lambda d: f"{d['bytes_per_cached_prefix']['100'] / 1e6:.1f} MB")]  # fmt: skip
    about = (f"Over a flat text cross-encoder of {flat['layers']} layers and {flat['tokens']} tokens, which scores "
             f"{flat['candidates_per_s']:.1f} candidates and trains on {flat['trained_per_s']:.1f} impressions a second at "
             f"{found['flat_matmul_fraction']:.2f} of a plain matrix product's speed ({found['matmul_gflops']:.0f} GFLOP/s, "
             f"{found['threads']} threads, {found['precision']}). Collation: {found['collate_events_per_s']:,.0f} events/s on one core, "
             f"{found['features_and_collate_events_per_s']:,.0f} with features. Medians of {found['rounds']} paired rounds, "
             f"`{found['command']}`.")
    return "\n".join([*lines, "", about])


def training(found: dict[str, Any]) -> str:
    """What a training survives and leaves."""
    large = found["bert_large_step"]
    rows = [("killed runs that the same command finished, equal to an undisturbed one", f"{found['kills_survived']} of {found['kills']}"),
            ("a run struck six times is bitwise equal", "yes" if found["bitwise_resume"] else "no"),
            ("weights of 2 and 4 processes and 2 nodes to those of one, over the way travelled (float64)",
             f"{found['process_weight_difference']:.0e}"),
            ("tokens of the fullest of 4 processes over an even share, 95th percentile", f"{found['rank_token_imbalance']:.1%}"),
            ("memory growth from step 200 to 2,200", f"{found['rss_growth_mb']:.0f} MB"),
            ("start to first step, over imports and loading the encoder", f"{found['first_step_ratio']:.2f}"),
            ("checkpoint", f"{found['checkpoint_mb']:.1f} MB"),
            *((f"release, {form} form", f"{found[f'{form}_release_mb']:.1f} MB, loads in {found[f'{form}_load_s']:.1f} s")
              for form in ("adapter", "full", "merged")),
            ("peak memory of a step of a BERT-large shape, layers computed again / kept",
             f"{large['recomputed']['peak_gb']:.1f} / {large['kept']['peak_gb']:.1f} GB")]  # fmt: skip
    table = ["| | |", "| --- | --- |", *(f"| {label} | {value} |" for label, value in rows)]
    return "\n".join([*table, "", "From `scripts/benchmark.py training`."])
