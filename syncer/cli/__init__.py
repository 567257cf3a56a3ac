"""The command line, `syncline` and `kubectl syncline`.

Reading order: `app` (every command and its help), `operator` and `options` (flags), `errors` and `output` (how it
speaks), then what the commands do: `access` (which cluster), `registration` (target add and remove), `targets`,
`insight` (status, explain, pods), `render`. Heavy modules are imported inside commands, so that `--help` is quick;
`launch` starts the agent without what only commands need.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code: 0 ok, 1 failed, 2 wrong use, 130 interrupted.

    Args:
        arguments: None: those of this process, which is then ours to replace.
    """
    if arguments is None:
        from syncer.cli.launch import handed_over, run_agent

        settings = handed_over()
        if settings is not None:
            from syncer.cli.errors import complain

            try:
                return run_agent(settings)
            except KeyboardInterrupt:
                return 130
            except Exception as error:  # as every command: two lines
                return complain(error)
    from syncer.cli.app import main as interpret

    return interpret(arguments)
