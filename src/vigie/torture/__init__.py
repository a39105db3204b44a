"""``vigie doctor --torture N``: everything is killed at random, and then the books must balance.

Real clients start real jobs in a home of their own (``client``, ``work``) while ``storm``
kills agent, keeper, workers and clients with SIGKILL. Three books are kept that know
nothing of each other: what the clients were promised (``notes``, synced before anything
else happens), what really ran (``witness``, one line an attempt), and what Vigie says of
it (the store). ``books`` compares them; ``report`` says it in words.
"""

from __future__ import annotations

__all__: list[str] = []
