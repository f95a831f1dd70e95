"""Check whether a training would work: `python -m src.doctor`, with the keys of the training's command."""

import logging
import shlex
import sys
from pathlib import Path

from omegaconf import DictConfig

from src.errors import UserError
from src.front_door import front_door
from src.masking import hide_secrets

log = logging.getLogger("src.doctor")  # __name__ is __main__ here


def doctor(config: DictConfig) -> None:
    """Examines everything; then raises UserError, for exit code 2, if training would not work."""
    from pytorch_lightning import seed_everything

    from src.diagnosis.cache_health import examine_cache
    from src.diagnosis.dataset_health import examine_dataset
    from src.diagnosis.dataset_statistics import statistics_of
    from src.diagnosis.doctor_report import show, verdict, write_report
    from src.diagnosis.hardware import examine_disks, examine_machine
    from src.diagnosis.notes import CONFIG, DATASET, Notes
    from src.diagnosis.planned_training import Setup, as_training
    from src.diagnosis.proposal import lacks_classes, propose
    from src.diagnosis.samples import write_samples
    from src.runs.directory import Run, rank

    if rank() != 0:  # if a launcher starts several processes, one doctor is enough
        return
    if lacks_classes(config):
        run = Run.plan(config)
        run.open()
        propose(config, run)
        return
    seed_everything(config.seed, verbose=False)
    notes, statistics = Notes(), {}
    directory: Path | None = None
    with notes.trying(CONFIG, "run directory"):
        run = Run.plan(config)
        run.open()
        directory = run.directory

    examine_machine(notes)
    examine_disks(notes, config.runs_dir, config.cache_dir)
    setup = Setup.build(as_training(config), notes)
    if setup.data:
        folders = examine_dataset(notes, setup.data)
        statistics = statistics_of(notes, setup.data, folders, setup.class_weights)
        setup.open_data(notes)
        examine_cache(notes, setup.data)
    setup.check(notes)
    setup.first_step(notes)
    train_set = setup.data.train_set if setup.data else None
    picture = directory / "samples.jpg" if directory else None
    if picture:
        picture.unlink(missing_ok=True)  # from an earlier examination under this name
        if train_set and config.samples and not notes.count("error", DATASET):
            write_samples(train_set, config.samples, picture)
            log.info("Frames, labels and crops to look at: %s", picture)

    command = shlex.join(["python", "-m", "src.train", *map(hide_secrets, _without_own(sys.argv[1:]))])
    show(notes, statistics)
    if directory:
        write_report(notes, statistics, directory, command)
        log.info("Full report: %s", directory / "report.txt")
    if notes.count("error"):
        raise UserError(f"{verdict(notes)} Fix that, then run the doctor again.")
    log.info("%s Next:\n  %s", verdict(notes), command)


def _without_own(arguments: list[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("samples=")]


main = front_door(doctor, "doctor")

if __name__ == "__main__":
    sys.exit(main())
