"""Who is matched with whom, and whose learning a CRM gets, is policy: rows of a rule set.

The statements are in the `.sql` file beside this one, where they can be read.
"""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the identity rules."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
