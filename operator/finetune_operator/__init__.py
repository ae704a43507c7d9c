"""The operator: turns a FineTuneJob into plain pods, follows them, and writes the job's story into its status.

Must import nothing here: the CLI uses `finetune_operator.plan` and may not pull kopf or kubernetes in.
"""
