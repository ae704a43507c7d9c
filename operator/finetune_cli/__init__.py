"""The `finetune` command: the same YAML on a laptop, its plan, its objects, its mistakes.

May import the operator's plan and the trainer's store, both inside functions only: `finetune --help` and
`finetune validate` load neither torch nor kubernetes. Must not decide what the operator's plan decides.
"""
