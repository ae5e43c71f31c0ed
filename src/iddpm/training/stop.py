"""Why a training run ends."""

from enum import Enum
from signal import Signals


class Stop(Enum):
    """Why a loop ended."""

    FINISHED = "finished"
    TIME = "time is up"
    INTERRUPTED = "stopped by SIGINT"
    TERMINATED = "stopped by SIGTERM"

    @property
    def exit_status(self) -> int:
        """The status that a process ends with: 128 and the signal's number, as shells count."""
        numbers = {Stop.INTERRUPTED: Signals.SIGINT, Stop.TERMINATED: Signals.SIGTERM}
        return 128 + numbers[self] if self in numbers else 0
