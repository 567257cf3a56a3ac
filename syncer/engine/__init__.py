"""The sync engine: what should be where, and the writes that bring it there.

Reading order: `pair` (what is known of one object on one target), `situation`, `actions`, `decide` (the pure core:
situation in, next action out), `absorb` (what a reply teaches), `planner` (which targets an object goes to),
`workqueue`, `lanes` and `budget` (when work may run). Then the shells: `world` (all records), `catalog` and
`downstream` (events in), `intents` (from records to a situation), `passes` and `executor` (decide, perform, learn),
`statuswriter`, `placementstatus`, `nskeeper`, `watches`, and `engine`, which holds them together.
"""
