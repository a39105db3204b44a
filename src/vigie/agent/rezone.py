"""The duty of zones whose files change: what stands in one is planned anew, and nothing else is.

Rules change for years to come, seldom for what has been. Where somebody was here all the
time, what has come is done with, and the new rules say what comes from now on; after an
absence they say as well what was missed in it. The work goes in pages. What a zone's file
says is noted with the last of them, so that whoever dies in between begins again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vigie import zones
from vigie.agent.core import Who
from vigie.agent.whens import forget, line
from vigie.errors import VigieError

if TYPE_CHECKING:
    from vigie.agent.schedules import Schedules
    from vigie.store.schedules import ScheduleRow

__all__ = ["Rezone"]


class Rezone:
    """Looks at the files of zones.

    Parameters
    ----------
    duty:
        The schedules, which plan.
    """

    def __init__(self, duty: Schedules) -> None:
        self.duty = duty
        #: Zones in which not all is planned anew yet.
        self._pending: set[str] = set()

    def look(self, *, missed: bool = False) -> None:
        """Plan anew what stands in zones whose files have changed; ``missed``: nobody was here until now."""
        for name, before in self.duty.store.run("zones").fetchall():
            found = _fingerprint(name)
            if found is not None and (found != before or name in self._pending):
                zones.forget(name)
                forget()
                self.duty.core.log("zone-changed", thing=f"zone:{name}", who=Who(program="schedule"))
                self._pending.add(name)
                self._page(name, found, 0, missed)

    def concern(self, row: ScheduleRow) -> bool:
        """Tell whether what is known of a schedule's next instant may be wrong."""
        return bool(self._pending) and not self._pending.isdisjoint(row.zones.split())

    def _page(self, zone: str, fingerprint: str, after: int, missed: bool) -> None:
        duty = self.duty
        rows = duty.store.in_zone(zone, after)
        now = duty.core.clock.wall()
        for row in rows:
            with duty.aside(row.id):
                self._plan(row, now, missed)
        if rows:
            duty.core.after(duty.writer.post, self._page, zone, fingerprint, rows[-1].id, missed)
        else:
            duty.store.run("zone_changed", (fingerprint, zone))
            duty.core.after(self._pending.discard, zone)
            duty.core.after(duty.wake)

    def _plan(self, row: ScheduleRow, now: int, missed: bool) -> None:
        store = self.duty.store
        store.run("withdraw", (row.id, now))
        put_off = row.next is not None and row.next <= now
        since = max(min(row.planned, now) if missed or put_off else now, row.created)
        following = line(row._replace(planned=since)).after(since)
        store.run("advance", (since, following, self.duty.due(row, following), row.id))


def _fingerprint(zone: str) -> str | None:
    """Give what the file of a zone says; None if there is none any more: it goes on by the rules that are known."""
    try:
        found = zones.fingerprint(zones.load(zone))
    except VigieError:
        # Its schedules are put aside when they are due.
        return None
    return None if found == "gone" else found
