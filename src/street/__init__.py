"""The synthetic street: a small dataset in Cityscapes' own layout, drawn here, for demos and tests."""

from src.street.scene import Scene, draw_scene
from src.street.writer import write_street

__all__ = ["Scene", "draw_scene", "write_street"]
