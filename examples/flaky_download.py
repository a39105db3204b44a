"""Download from a server that fails now and then: retries with back-off, done by Vigie.

    python flaky_download.py [URL]

Without a URL it serves a file on 127.0.0.1 itself, and answers the first two requests with an error. The function
knows nothing of retries: it raises, and is run again.
"""

from __future__ import annotations

import hashlib
import http.server
import itertools
import sys
import threading
import urllib.request

import vigie

CONTENT = b"the moon and the sea\n" * 1000


@vigie.task(name="download", retries=5, backoff="200ms", timeout="1m")
def download(url):
    print("asking", url)
    with urllib.request.urlopen(url, timeout=10) as answer:
        data = answer.read()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Flaky(http.server.BaseHTTPRequestHandler):
    """Fails twice, then serves."""

    requests = itertools.count(1)

    def do_GET(self):
        if next(self.requests) <= 2:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


def main() -> int:
    if len(sys.argv) > 1:
        url = sys.argv[1]
    else:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/moon.txt"
    job = download.start(url)
    try:
        found = job.result()
    except vigie.JobFailed as error:
        print(f"given up: {error.__cause__ or error}", file=sys.stderr)
        return 1
    print(f"{found['bytes']} bytes at attempt {job.info()['attempt']}, sha256 {found['sha256'][:16]}…")
    return 0


if __name__ == "__main__":
    sys.exit(main())
