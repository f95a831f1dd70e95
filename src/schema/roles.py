"""Which keys may change when a run resumes or is extended, and which may differ between the ranks of a run.

Each entry stands for all keys that begin with it. All other keys decide what is computed.
"""

RESUME, RANKS = "may change when a run resumes", "may differ between ranks"
EXTEND = "may change when a run is extended (extend=true)"

_ROLES: dict[str, set[str]] = {
    # where a run is, and what it is called
    "name": {RESUME},  # a directory that was renamed
    "runs_dir": {RESUME, RANKS},
    "run_dir": {RESUME, RANKS},
    "cache_dir": {RESUME, RANKS},
    "data.root": {RESUME, RANKS},
    "checkpoint": {RANKS},  # compared by its content
    "trust": {RESUME, RANKS},
    "overwrite": {RESUME},
    "teacher.checkpoint": {RESUME, RANKS},  # compared by its SHA-256
    # how it computes, but not what
    "compile": {RESUME},
    "data.num_workers": {RESUME, RANKS},
    "data.cache": {RESUME, RANKS},
    "data.val_batch_size": {RESUME},
    "trainer.accelerator": {RESUME},
    "trainer.devices": {RESUME, RANKS},
    "trainer.num_nodes": {RESUME},
    "trainer.strategy": {RESUME},
    # how long it trains
    "extend": {RESUME},
    "trainer.max_epochs": {EXTEND},
    "trainer.max_steps": {EXTEND},
    "trainer.max_time": {EXTEND},
    "callbacks.early_stopping": {EXTEND},
    # what it prints and writes
    "trainer.enable_progress_bar": {RESUME, RANKS},
    "trainer.enable_": {RESUME},
    "trainer.log_every": {RESUME},
    "trainer.profiler": {RESUME},
    "trainer.default_root_dir": {RESUME},
    "callbacks.pictures": {RESUME},
    "callbacks.report": {RESUME},
    "callbacks.epoch_lines": {RESUME},
    "callbacks.throughput": {RESUME},
    "callbacks.summary": {RESUME},
    "callbacks.best.dirpath": {RESUME},
    "callbacks.last.": {RESUME},
    "callbacks.nan_guard.directory": {RESUME},
    "callbacks.seeds.seed": {RESUME},  # always that of `seed`
    "logger.": {RESUME, RANKS},
    "report.": {RESUME},
}
MAY_CHANGE = tuple(key for key, roles in _ROLES.items() if RESUME in roles)
MAY_EXTEND = tuple(key for key, roles in _ROLES.items() if EXTEND in roles)
MAY_DIFFER = tuple(key for key, roles in _ROLES.items() if RANKS in roles)
