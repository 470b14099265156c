"""Are the rule files beside the connections file what is published? For `coursewire check`."""

from sqlalchemy import Connection

from integration.config import Config
from integration.errors import ConfigError
from mappings import store
from tasks.checks.answers import Line
from tasks.inventory import basis
from tasks.saying import count


def lines(db: Connection, config: Config) -> list[Line]:
    """Return whether what the files say is in force. Raises what `store.active` does."""
    folder = config.rules
    if folder is None:
        return []
    published = store.active(db)
    try:
        files = basis.loaded(config, folder)
    except ConfigError as error:
        advice = f"Correct the file; rule set {published.id} stays in force."
        return [Line("warning", "rules", line, advice) for line in str(error).splitlines()]
    found = basis.unpublished(published, files, folder)
    if not found:
        return [Line("ok", "rules", f"the files in {folder.name}/ say what is published")]
    named = ", ".join(sorted({f"{folder.name}/{file}" for file in found if file})) or f"{folder.name}/"
    what = f"not published: {named} ({count(len(found), 'entry', 'entries')} other than in rule set {published.id})"
    advice = "`coursewire rules plan` shows what would change, and `coursewire rules publish` publishes it."
    return [Line("warning", "rules", what, advice)]
