"""The synthetic street: a small dataset in Cityscapes' own layout, drawn here, for demos and tests."""

from src.data.street.scene import Scene, draw_scene
from src.data.street.writer import write_street

__all__ = ["Scene", "draw_scene", "write_street"]
