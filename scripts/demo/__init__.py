"""`coursewire demo`: the whole story on one machine, told by real processes and judged by an independent truth.

Read `story.py` first: it is the order of what happens. `promises.py` says what must hold afterwards.
"""

from scripts.demo.show import run

__all__ = ["run"]
