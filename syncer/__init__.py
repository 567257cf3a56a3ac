"""The operator: everything that knows both clusters.

Reading order: `api` (words), `placement`, `transform`, `conflict` and `engine.decide` (pure cores), `kube` (the only
code that speaks to an API server), `engine` and `controllers` (shells), `operator` and `cli` (wiring).
"""
