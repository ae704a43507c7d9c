"""Judging: which step is the best, when training ends early, what passes the gate. Pure decisions."""
