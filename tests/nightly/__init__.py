"""What takes too long for every run: `make nightly`.

`churn`  hub and agent as two processes, calls of all kinds, links that fail; in the end nothing has grown
`calls`  the calls, and the services that they go to
`ends`   the two processes
`flat`   when a process has not grown
"""
