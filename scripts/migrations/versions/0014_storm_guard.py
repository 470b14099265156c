"""A storm of role changes stops and asks.

The statements are in the `.sql` file beside this one, where they can be read.
"""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Let a row of a role say whether it waits for somebody's word, and when it was acted on last."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
