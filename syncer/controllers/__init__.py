"""Controllers of our own kinds: thin shells around pure decisions.

Reading order: `probe` (is a target reachable), `rights`, `capacity`, `status` (what its SyncTarget says), all pure;
`secrets`, `reporter`, `target` (one target's life), `synctargets` (all of them), `kopf_edge` (where kopf runs).
"""
