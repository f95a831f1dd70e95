import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from src.training.callbacks.ema import WarmedUpEMA

DECAY = 0.5  # reached after 8 steps: 9/18
BATCHES, EPOCHS = 5, 3


class Tiny(pl.LightningModule):
    """Keeps what it was after each step, and what it was when it validated."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.register_buffer("replaced", torch.zeros(1), persistent=False)
        self.trained = [self.now()]
        self.validated = []

    def now(self):
        return {key: value.clone() for key, value in self.network.state_dict().items()}

    def training_step(self, batch, _):
        self.replaced = self.replaced + 1
        return (self.network(batch) - 2).square().mean()

    def on_train_batch_end(self, *args):
        self.trained.append(self.now())

    def validation_step(self, batch, _):
        self.validated.append((self.trainer.global_step, self.now()))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        return DataLoader(torch.randn(BATCHES * 6, 3, generator=generator), batch_size=6)

    def val_dataloader(self):
        return DataLoader(torch.zeros(2, 3), batch_size=2)


def fit(directory, epochs=EPOCHS, resume=None, decay=DECAY, **trainer):
    torch.manual_seed(0)
    module = Tiny()
    last = ModelCheckpoint(
        directory, "last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[WarmedUpEMA(decay), last],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    ).fit(module, ckpt_path=resume, weights_only=True)
    return module, torch.load(directory / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("ema"))


def averages(trained, decay=DECAY):
    """After each step: the first trained weights, then (1 - d) of the new ones and d of the average."""
    average = trained[1]
    yield average
    for n, weights in enumerate(trained[2:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        average = {
            key: d * average[key] + (1 - d) * value if value.is_floating_point() else value
            for key, value in weights.items()
        }
        yield average


def of_network(state):
    return {key.removeprefix("network."): value for key, value in state.items()}


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_checkpoint_holds_the_average_and_the_trained_weights_beside_it(run):
    module, checkpoint = run
    assert len(module.trained) == 1 + BATCHES * EPOCHS
    *_, average = averages(module.trained)
    assert_same(of_network(checkpoint["state_dict"]), average)
    assert_same(of_network(checkpoint["current_model_state"]), module.trained[-1])
    assert not torch.allclose(average["0.weight"], module.trained[-1]["0.weight"], rtol=1e-3)


def test_a_buffer_that_is_replaced_in_each_step_is_averaged(run):
    steps = [{"x": torch.full((1,), float(step))} for step in range(BATCHES * EPOCHS + 1)]
    *_, average = averages(steps)
    torch.testing.assert_close(run[0].replaced, average["x"])


def test_counters_are_copied(run):
    _, checkpoint = run
    counter = checkpoint["state_dict"]["network.1.num_batches_tracked"]
    assert counter == BATCHES * EPOCHS
    assert counter.dtype == torch.int64


def test_validation_sees_the_average_and_training_goes_on_without_it(run):
    module, _ = run
    after = list(averages(module.trained))
    assert [step for step, _ in module.validated] == [BATCHES, 2 * BATCHES, 3 * BATCHES]
    for step, weights in module.validated:
        assert_same(weights, after[step - 1])


def test_training_itself_is_untouched(run):
    module, _ = run
    torch.manual_seed(0)
    plain = Tiny()
    optimizer = plain.configure_optimizers()
    for batch in [*plain.train_dataloader()] * EPOCHS:
        optimizer.zero_grad()
        plain.training_step(batch, 0).backward()
        optimizer.step()
    assert_same(plain.now(), module.trained[-1])


def test_after_the_fit_the_module_is_the_average(run):
    module, checkpoint = run
    assert_same(module.now(), of_network(checkpoint["state_dict"]))


def test_the_first_averages_are_near_the_trained_weights(tmp_path):
    module, checkpoint = fit(tmp_path, epochs=1, decay=0.999)
    start, trained = (module.trained[i]["0.weight"] for i in (0, -1))
    average = checkpoint["state_dict"]["network.0.weight"]
    assert (average - trained).norm() < 0.2 * (trained - start).norm()


def test_a_resumed_run_averages_on(run, tmp_path):
    _, checkpoint = run
    fit(tmp_path, epochs=EPOCHS - 1)
    resumed, again = fit(tmp_path, resume=tmp_path / "last.ckpt")
    assert len(resumed.trained) == 1 + BATCHES
    for key in ("state_dict", "current_model_state"):
        assert_same(again[key], checkpoint[key])


def test_an_average_per_optimizer_step_not_per_batch(tmp_path):
    module, checkpoint = fit(tmp_path, epochs=2, accumulate_grad_batches=BATCHES)
    steps = [module.trained[0], *module.trained[BATCHES::BATCHES]]
    assert checkpoint["averaging_state"]["n_averaged"] == 2
    *_, average = averages(steps)
    assert_same(of_network(checkpoint["state_dict"]), average)
