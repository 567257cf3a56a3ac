"""The charts: `syncline` for the operator, `syncline-agent` for a target behind the tunnel; and what keeps them true.

`python -m deploy.helm` copies CRDs, roles and the agent's defaults into the charts and renders deploy/manifests from
them; `--check` shows drift. `render.py` runs helm, which is found on PATH or built from a pinned Go module.
"""
