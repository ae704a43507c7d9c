"""The first process of a trainer pod: follows the attempt, starts and watches workers, moves files, answers HTTP.

Never imports torch, transformers or datasets: it must be light, and alive when they crash.
"""
