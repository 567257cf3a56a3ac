"""`python -m deploy.local.kind`."""

from deploy.local.kind.cli import app

app(prog_name="python -m deploy.local.kind")
