"""recllm: a context-aware, multi-task recommender on a pretrained encoder."""
