"""What Syncline costs and how fast it is, measured against the raw limit of the same API servers in the same run.

Reading order: `__main__` (the command), `figures` (numbers and goals, pure), `ground` (fleet and operator), then one
file per scenario: `burst`, `latency`, `drift`, `feedback`, `writes`, `footprint`, `coldstart`, `fanout`.
`tunnel` and `tunnel_rig` measure the tunnel alone, without API servers (`make bench-tunnel`).
Beside them `kube_micro` and `render_micro` time single functions, without any server.
"""
