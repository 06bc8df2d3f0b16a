"""The model, flat: these files are copied into every release as they are, and import nothing else of recllm."""
