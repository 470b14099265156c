"""Companies that show how many of their people are certified.

The statements are in the `.sql` file beside this one, where they can be read.
"""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add accounts, who is in them, and what rules count."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
