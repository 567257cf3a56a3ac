"""What is true downstream, folded into what is reported upstream. Knows nothing of the syncer.

Reading order: `report` (the words) → `collector` (an observed object becomes a report; `sanitize`
bounds what a target may say) → `kinds` (one file per kind: reflect, health, merge) → `conditions`
(many conditions become one) → `aggregator` (one per source object: slots, running totals, the
status to write) → `patch` (the request that writes it).

Everything here is pure: no I/O, no clock, no task.
"""
