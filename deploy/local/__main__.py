"""Entry point of `python -m deploy.local`."""

from deploy.local.cli import app

app(prog_name="python -m deploy.local")
