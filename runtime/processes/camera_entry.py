"""What the cameras' process runs first, as the runtime starts it: `-m runtime.processes.camera_entry DESCRIPTOR`.

Nothing is imported before signals and priority are set. Signals that go to the whole service or terminal mean the
runtime; started again, the process comes from a real-time thread, and what it imports must not have that priority.
"""

import os
import signal
import sys

NOT_FOR_IT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def main() -> int:
    """Ignore what is not for it, take the normal priority, and run the cameras."""
    for number in NOT_FOR_IT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_IT)  # the runtime has blocked them for these few moments
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    from runtime.processes.camera_process import main as run

    return run(int(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
