"""The agent on a target's side: what it serves to the hub through the tunnel, and what it never does.

Reading order: `policy` (what may be asked for here, pure), `role` (the rights that this takes, pure), `kube_api` (one
stream: requests in, the local API server's answers out). How it got here: `joining`, `pinning`, `http`, `credentials`.
"""
