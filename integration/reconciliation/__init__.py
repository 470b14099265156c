"""The nightly comparison: both sides are read, compared with the truth, and what drifted is made due.

`comparison` says how one contact compares and does nothing; `sweep` works on the chunks of a run.
"""
