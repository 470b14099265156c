"""Chunks of an import that are in while one before them is not yet.

The statement is in the `.sql` file beside this one, where it can be read.
"""

from pathlib import Path

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Add a column that costs nothing where it is empty."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
