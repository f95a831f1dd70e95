"""Class maps of images or a video: `python -m src.predict checkpoint=... source=...`."""

import sys

from omegaconf import DictConfig

from src.front_door import front_door


def predict(config: DictConfig) -> None:
    """Raises IncompleteError, for exit code 1, if some of the images could not be read."""
    from src.preflight import check_weights_file

    check_weights_file(config.checkpoint)
    from src.prediction.prediction import Prediction

    prediction = Prediction(config)  # everything that can be wrong is found here
    prediction.run()


main = front_door(predict, "predict")

if __name__ == "__main__":
    sys.exit(main())
