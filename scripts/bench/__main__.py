"""`python -m scripts.bench` is `coursewire bench`."""

import sys

from tasks.cli import app

app(["bench", *sys.argv[1:]])
