"""Our sweepers and launcher, in the package from which Hydra loads all plugins; it imports this file at each
start.

This folder must have no __init__.py: other installed plugins share the package. The code is in src/sweep.
"""

from src.sweep import launcher, optuna_search, sweepers


class GridSweeper(sweepers.GridSweeper):
    """hydra/sweeper=grid, the default for `-m` in this repository"""


class OptunaSweeper(optuna_search.OptunaSweeper):
    """hydra/sweeper=optuna"""


class LocalLauncher(launcher.LocalLauncher):
    """hydra/launcher=local"""
