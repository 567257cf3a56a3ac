"""The command line, `syncline` and `kubectl syncline`.

Reading order: `app` (every command and its help), `operator` and `options` (flags), `errors` and `output` (how it
speaks), then what the commands do: `access` (which cluster), `registration` (target add and remove), `targets`,
`insight` (status, explain, pods), `render`. Heavy modules are imported inside commands, so that `--help` is quick.
"""

from syncer.cli.app import main

__all__ = ["main"]
