"""Health check for containers without curl: `python -m touchpoint.http.probe healthz|readyz`."""

import os
import sys
from http.client import HTTPConnection

SECONDS = 3


def main(path: str) -> int:
    """Request the path at ADMIN_PORT and print the answer; returns exit code 0 on status 200, else 1."""
    admin = HTTPConnection("127.0.0.1", int(os.environ["ADMIN_PORT"]), timeout=SECONDS)
    try:
        admin.request("GET", f"/{path}")
        answer = admin.getresponse()
        sys.stdout.write(answer.read().decode() + "\n")
    except OSError as error:
        sys.stdout.write(f"no answer at port {admin.port}: {error}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
