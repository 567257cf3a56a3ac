"""Keeps the operator's memory small, as `lean`: kopf without the `kubernetes` package, where that is installed.

kopf loads every model of it (20 MiB) when it finds it, for a way of logging in that we do not use.
"""

from __future__ import annotations

from syncer.lean import import_without

import_without("kopf", "kubernetes")
