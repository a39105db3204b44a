"""A service that writes the time, every five minutes by default, and says how it is.

Add it, and see what it writes:

    vigie service add clock --ready notify --watchdog 1m -- python3 clock_service.py
    vigie logs -f clock

It is ready when its first line is written, sends a sign of life while it waits, and says when it ends.
"""

import os
import signal
import socket
import sys
import time


def say(text: str) -> None:
    """Tell the service manager something, if one listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.send(text.encode())


def stop(_number: int, _frame: object) -> None:
    """End when told to."""
    say("STOPPING=1")
    print("the clock stops", flush=True)
    sys.exit(0)


def main() -> None:
    """Write the time for ever."""
    every = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    signal.signal(signal.SIGTERM, stop)
    while True:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(now, flush=True)
        say(f"READY=1\nSTATUS=last wrote at {now}")
        left = every
        while left > 0:
            say("WATCHDOG=1")
            pause = min(left, 10.0)
            time.sleep(pause)
            left -= pause


if __name__ == "__main__":
    main()
