"""`make bench-tunnel`: how fast from a load tool through hub, link and agent to a server, and at what cost.

Reading order: `__main__` (the command), `report` (rows, pure), `load` (the load tool), `bed` (the three ways that are
compared), then the lines: `lines` (one load on three ways), `links` (thin and dead links), `kube` (requests of the
hub's client), `fleet` (a thousand agents). `hop` is the plain proxy beside us.
"""
