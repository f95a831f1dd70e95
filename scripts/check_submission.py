"""Would Cityscapes' server accept it? `python -m scripts.check_submission submission.zip [--root CITYSCAPES]`

Checks a zip archive or a folder: is there one prediction for each image, with its name and size, as an
8-bit PNG of one channel, with only the label ids of the 19 evaluated classes? Exit code 0 if so, otherwise 2
and one line per problem. With --root, the predictions must match the images in that folder; without it, the
number and size of images must be those of the full Cityscapes.
"""

import argparse
import sys
from pathlib import Path

from src.data.files import png_size
from src.data.layouts import CITYSCAPES_IMAGES, find_pairs
from src.data.parallel import parallel_map
from src.errors import UserError, shorten
from src.evaluation.submission_check import check_submission

_SHOWN = 30  # problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("place", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--root", type=Path, help="Cityscapes, with leftImg8bit/ or its archive")
    parser.add_argument("--split", choices=tuple(CITYSCAPES_IMAGES), default="test")
    arguments = parser.parse_args()
    try:
        sizes = _sizes(arguments.root, arguments.split) if arguments.root else None
        problems = check_submission(arguments.place, arguments.split, sizes)
    except UserError as error:
        print(error.text, file=sys.stderr)
        return 2
    if problems:
        print(f"{arguments.place}: the server would refuse it or score it wrongly.", file=sys.stderr)
        print(shorten(problems, _SHOWN), file=sys.stderr)
        return 2
    full = CITYSCAPES_IMAGES[arguments.split]
    images = full if sizes is None else len(sizes)
    print(f"{arguments.place}: fine, {images} predictions for the split '{arguments.split}'.")
    if images != full:
        print(
            f"But {arguments.root} has {images} of the {full} images of this split, and the server wants all."
        )
    return 0


def _sizes(root: Path, split: str) -> dict[str, tuple[int, int]]:
    pairs = find_pairs("cityscapes", root, split)
    sizes = parallel_map(lambda pair: png_size(pair.image), pairs)
    return dict(zip((pair.name for pair in pairs), sizes, strict=True))


if __name__ == "__main__":
    sys.exit(main())
