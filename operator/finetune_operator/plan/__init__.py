"""The decisions about a job, pure: arguments in, values out, `now` is an argument.

Must do no I/O and import neither kopf nor kubernetes nor aiohttp: the CLI plays the operator's part with this package.
"""
