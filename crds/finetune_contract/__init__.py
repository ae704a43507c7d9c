"""The contract: what a job may say, what a trainer is told, what it answers.

Pydantic models and names only. It must import nothing but pydantic (schema, which generates files, also PyYAML): the
operator, the trainer and the CLI all meet here, and none of them may pull another one's libraries in through this door.
"""
