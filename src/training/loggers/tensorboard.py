"""A TensorBoard logger whose curves have each step once, also where a run was killed and resumed."""

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only


class ResumedTensorBoardLogger(TensorBoardLogger):
    """Lightning's, with a note in the file of a resumed run: TensorBoard then hides the values of earlier
    files from that step on."""

    @rank_zero_only
    def resume_from(self, step: int) -> None:
        """Args:
        step: that is trained next; 0 in a training that begins.
        """
        if not step:
            return
        if self._experiment is not None:
            self._experiment.close()
            self._experiment = None
        self._kwargs["purge_step"] = step
