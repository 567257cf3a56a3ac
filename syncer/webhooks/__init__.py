"""Admission: who may place what, and which objects of our kinds are refused, with the path at fault.

Reading order: `rules` (pure: `(old, new, context) -> list[Finding]`, the same at admission and at reconcile), `access`
(pure: which questions the requesting user must pass), `handlers` (asks them), `server` (kopf's admission server with
our certificates), `certificates`, `configurations` (the two webhook configurations that we keep).

Wiring, done by `syncer.operator`:

    known = Known(
        targets=lambda: {name: SyncTarget},                 # every SyncTarget that the operator knows, parsed
        placements=lambda: [Placement | ClusterPlacement],  # for the overlap warning
        resolve=discovery.find,                             # (api_version, kind) -> ResourceInfo | None, upstream
    )
    handlers = AdmissionHandlers(review=SubjectAccessReviews(upstream_client), known=known)
    handlers.register(registry)                             # validating and mutating handlers on the kopf registry
    server = AdmissionServer(upstream_client, bind=..., url=...)
    settings.admission.server = server                      # kopf calls it; settings.admission.managed stays None

At reconcile `rules.require_valid(model, Context(targets=..., resolve=..., hub_id=...))` raises the same errors as one
`TerminalError`, so that `--webhooks off` changes nothing but the moment. (Without `placements`: overlaps only warn.)
"""
