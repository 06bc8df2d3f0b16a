"""From prepared shards to batches, through model/processing_recllm: what evaluation and training read."""
