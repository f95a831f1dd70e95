"""What a sweep's bookkeeping sees of a training, without the training: `python stand_in_job.py <overrides>`.

The score is best at optimizer.lr=1e-3. seed=13 fails, seed=14 the first time; seed=130 is interrupted then.
seed=10 validates ten times, of trainer.max_epochs=11; with a low score it then waits for SIGTERM.
seed=100 + n waits until n jobs have begun, and fails if another one has its GPU.
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    directory = Path(given["runs_dir"]) / "train" / given["name"].strip("'")
    starts, seed = directory / "starts", int(given["seed"])
    starts.write_text((starts.read_text() if starts.exists() else "") + "*")
    score = 0.9 - 0.1 * abs(math.log10(float(given.get("optimizer.lr", "1e-3"))) + 3)
    if seed == 13 or (seed == 14 and starts.read_text() == "*"):
        sys.exit("the thirteenth seed fails")
    elif seed == 130 and starts.read_text() == "*":
        sys.exit(130)
    elif seed == 10:
        rows = [f"{epoch},{score}\n" for epoch in range(10)]
        epochs = int(given.get("trainer.max_epochs", 11))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        (directory / "config.yaml").write_text(f"trainer: {{max_epochs: {epochs}, max_steps: -1}}\n")
        (directory / "metrics.csv").write_text("".join(["epoch,val/mIoU\n", *rows]))
        if score < 0.8 and signal.sigtimedwait({signal.SIGTERM}, 20 if epochs > 10 else 1):
            sys.exit(143)
    elif 100 < seed < 110:
        mine = {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "cores": sorted(os.sched_getaffinity(0))}
        taken = directory.parent / f"taken {mine}"
        taken.mkdir()
        deadline = time.monotonic() + 60
        while len(list(directory.parent.glob("*/starts"))) < seed - 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        (directory / "slot.json").write_text(json.dumps(mine))
        taken.rmdir()
    (directory / "metrics.json").write_text(json.dumps({"mIoU": score}))
