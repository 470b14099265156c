"""Who sits at the keyboard, as the audit log names them."""

import os
import pwd


def actor() -> str:
    """Return `user:<login name>`: the account of the process, because an environment variable can say anything."""
    try:
        return f"user:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"user:uid-{os.getuid()}"  # a container that runs under a bare number
