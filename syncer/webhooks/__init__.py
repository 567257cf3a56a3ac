"""Admission: who may place what, and which objects of our kinds are refused, with the path at fault.

Reading order: `rules` (pure: `(old, new, context) -> list[Finding]`, the same at admission and at reconcile), `access`
(pure: which questions the requesting user must pass), `handlers` (asks them), `view` (what is known of our kinds),
`server` (kopf's admission server with our certificates), `configurations` (the two webhook configurations upstream),
`registration` (which replica they name).

Wiring, done by `syncer.replica` in every replica, whether or not it leads:

    view = AdmissionView(upstream_client)                   # run() it
    known = Known(targets=view.targets, placements=view.placements, resolve=view.resolve, hub_id=...)
    handlers = AdmissionHandlers(review=SubjectAccessReviews(upstream_client), known=known)
    handlers.register(registry)                             # validating and mutating handlers on the kopf registry
    server = AdmissionServer(upstream_client, authority, bind=..., url=..., leads=...)
    settings.admission.server = server                      # kopf calls it; settings.admission.managed stays None

At reconcile `rules.require_valid(model, Context(targets=..., resolve=..., hub_id=...))` raises the same errors as one
`TerminalError`, so that `--webhooks off` changes nothing but the moment. (Without `placements`: overlaps only warn.)
"""
