"""What differs between tasks: encoding of rows, model head, batches, loss, metrics, decoding. One file a task."""
