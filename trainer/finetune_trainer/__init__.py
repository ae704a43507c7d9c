"""The trainer: one agent a pod, one worker a GPU. It meets the operator only in documents of the contract."""
