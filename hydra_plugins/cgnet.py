"""Our sweepers under the one package name from which Hydra takes plugins; at each start it looks in here.

No __init__.py beside this file: other plugins that are installed share the package. The code is in src/sweep.
"""

from src.sweep import optuna_search, sweepers


class GridSweeper(sweepers.GridSweeper):
    """hydra/sweeper=grid, what `-m` means here"""


class OptunaSweeper(optuna_search.OptunaSweeper):
    """hydra/sweeper=optuna"""
