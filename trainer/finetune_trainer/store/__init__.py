"""Object storage behind one class, and the documents that the protocol keeps there. No torch, no datasets."""
