"""The command line in a world that is worse: ``python child.py '{"fsync": 0.1}' train ...``.

Facts: ``fsync``, seconds that reaching the disk takes; ``file_size``, bytes of the longest file;
``pauses``, seconds before each further try to save.
"""

import json
import os
import resource
import sys
import time


def main() -> None:
    facts = json.loads(sys.argv[1])
    if "fsync" in facts:
        original = os.fsync

        def fsync(descriptor: int) -> None:
            time.sleep(facts["fsync"])
            original(descriptor)

        os.fsync = fsync
    if "file_size" in facts:
        resource.setrlimit(resource.RLIMIT_FSIZE, (facts["file_size"],) * 2)
    if "pauses" in facts:
        from iddpm.training.checkpoints import saver

        saver.PAUSES = tuple(facts["pauses"])
    from iddpm.cli.main import main as command_line

    command_line(sys.argv[2:])


if __name__ == "__main__":
    main()
