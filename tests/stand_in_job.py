"""What a sweep's bookkeeping sees of a training, without the training: `python stand_in_job.py <overrides>`.

seed=13 fails, seed=130 is interrupted the first time; the score is best at optimizer.lr=1e-3.
"""

import json
import math
import sys
from pathlib import Path

if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    directory = Path(given["runs_dir"]) / "train" / given["name"].strip("'")
    starts = directory / "starts"
    starts.write_text((starts.read_text() if starts.exists() else "") + "*")
    if given["seed"] == "13":
        sys.exit("the thirteenth seed fails")
    if given["seed"] == "130" and starts.read_text() == "*":
        sys.exit(130)
    score = 0.9 - 0.1 * abs(math.log10(float(given.get("optimizer.lr", "1e-3"))) + 3)
    (directory / "metrics.json").write_text(json.dumps({"mIoU": score}))
