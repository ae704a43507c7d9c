"""The user's rows: read, cleaned, checked, split, tokenized into the store. A process of its own, with credentials."""
