"""What lives outside a release: predictions for files of requests, lists for users of the prepared log, `recllm.fit`."""
