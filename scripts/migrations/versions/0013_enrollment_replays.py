"""Enrolments are a kind of work that can be put back.

The statements are in the `.sql` file beside this one, where they can be read.
"""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Let replays be of enrolments."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
