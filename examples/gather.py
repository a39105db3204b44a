"""asyncio: await many jobs at once, handle each as it ends, and follow one live.

    python gather.py

Nothing here blocks the event loop; a server can do the same between its requests.
"""

from __future__ import annotations

import asyncio
import sys
import time

import vigie


def collatz(n):
    """Give how many steps the Collatz rule takes from n to 1."""
    steps = 0
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    return steps


def countdown(n):
    for left in range(n, 0, -1):
        time.sleep(0.05)
        yield left
    print("lift-off")


async def follow() -> None:
    async for record in vigie.start(countdown, 3):
        print("live:", record.value if record.text is None else record.shown)


async def main() -> int:
    jobs = vigie.start_many(collatz, [(n,) for n in (6, 7, 27, 97, 871)])
    steps, _ = await asyncio.gather(asyncio.gather(*jobs), follow())
    print("steps:", steps)

    async def named(n: int) -> tuple[int, int | str]:
        try:
            return n, await vigie.start(divmod, 84, n)
        except vigie.JobFailed as error:
            return n, f"{error.reason}: {error.__cause__}"

    answers = [await ended for ended in asyncio.as_completed(map(named, (0, 2)))]
    for n, answer in sorted(answers):
        print(f"84 by {n}:", answer)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
