"""The only code that speaks to an API server.

Reading order: `objects` (what is read), `errors` (what a refusal means), `paths` and `fields` (who owns what) are pure;
`credentials`, `client`, `discovery` and `informer` do I/O.
"""
