"""Deals: where each of them was, and whose they are.

The statements are in the `.sql` file beside this one, where they can be read.
"""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the three tables."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
