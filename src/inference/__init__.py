"""Class maps from a trained network: `from src.inference import load; load(path)(image)`."""

from src.inference.predictor import Predictor, load

__all__ = ["Predictor", "load"]
