"""Provider `kind`: one kind cluster for each member of the fleet, with real kubelets and containers.

Two ways. *Stock*: a container engine answers and has or gets kind's node image; nothing is built, no root is needed.
*Self-built*: no registry answers; node image and engine are ours, inside a network namespace without uplink.

Reading order: `provider.py` (what `make up` does), `site.py` (where kind runs), `ways.py` (which of the two ways), then
for the self-built way `nodeimage.py` (what is built, from `tools.py`, `rootfs.py`, `images.py`, `archive.py`),
`engine.py` (the engine in its namespace, and its end) and `traces.py` (that nothing is left).
"""
