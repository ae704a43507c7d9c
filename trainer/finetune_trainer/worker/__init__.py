"""One worker process a GPU or CPU rank: join, load, resume, train, evaluate, snapshot, finalize. `run` is the story."""
