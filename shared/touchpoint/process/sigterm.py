"""Exit on SIGTERM until the process installs its own handler: every service's `__main__` imports this module first.

The first process of a container has no default action for SIGTERM. Without this module it would ignore the signal
during a second of imports, or always (`migrate`), and be killed at the end of its grace period.

Garbage collection is also off until then: imports create many permanent objects, and scanning them took a fifth of the
start-up time.
"""

import gc
import os
import signal

gc.disable()  # touchpoint.process.service enables it once everything is imported

signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
