import shutil

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from src.data import datamodule
from src.data.datamodule import SegmentationDataModule
from src.labels import IGNORE


def assert_batch(batch, size, shape):
    assert set(batch) == {"image", "target", "name"}
    assert batch["image"].dtype == batch["target"].dtype == torch.uint8
    assert batch["image"].shape == (size, 3, *shape)
    assert batch["target"].shape == (size, *shape)
    assert isinstance(batch["name"], list)
    assert [type(name) for name in batch["name"]] == [str] * size


# ---- batches


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["street", "camvid", "cityscapes"])
def test_batches_keep_the_contract(ready, name, workers, module_for, street_root, camvid_root):
    root = camvid_root if name == "camvid" else street_root
    module = ready(module_for(name, root, num_workers=workers, val_batch_size=4))
    train, val = list(module.train_dataloader()), list(module.val_dataloader())
    assert len(train) == 3
    for batch in train:
        assert_batch(batch, 4, (48, 96))
    assert_batch(val[0], 4, (64, 128))
    assert_batch(val[1], 3, (64, 128))
    classes = {value for batch in train + val for value in batch["target"].unique().tolist()}
    assert classes <= {*range(module.table.num_classes), IGNORE}
    assert len(classes) > 5


def test_validation_frames_are_whole_and_each_comes_once(ready, street_module):
    loaders = [ready(street_module(), rank, devices=3).val_dataloader() for rank in range(3)]
    found = [name for loader in loaders for batch in loader for name in batch["name"]]
    assert sorted(found) == [f"valstadt_{index:06d}_000000" for index in range(7)]


@pytest.mark.parametrize(
    ("devices", "accumulate", "size"), [(1, 1, 4), (2, 1, 2), (1, 2, 2), (2, 2, 1), (4, 1, 1)]
)
def test_devices_share_the_batch(ready, street_module, devices, accumulate, size):
    """The same images in the same optimizer step, with the same augmentation."""

    def first_step(devices, accumulate):
        images = {}
        for rank in range(devices):
            loader = ready(street_module(), rank, devices, accumulate).train_dataloader()
            for _, batch in zip(range(accumulate), loader, strict=False):
                assert len(batch["name"]) == 4 // devices // accumulate
                images.update(zip(batch["name"], batch["image"], strict=True))
        return images

    alone, shared = first_step(1, 1), first_step(devices, accumulate)
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[name], shared[name]) for name in alone)


def test_an_augmentation_of_null_is_left_out(ready, street_module):
    module = ready(street_module(augment={"crop": None, "flip": None, "color": None, "pad": None}))
    batch = next(iter(module.train_dataloader()))
    dataset = module.val_set.__class__(module.train_set.pairs, module.table)
    frames = {sample["name"]: sample["image"] for sample in (dataset[0, index] for index in range(12))}
    assert all(
        torch.equal(frames[name], image) for name, image in zip(batch["name"], batch["image"], strict=True)
    )


def test_frames_of_different_sizes_do_not_share_a_batch(ready, module_for, real_data):
    module = module_for("cityscapes", real_data / "kitti", val_batch_size=4, train_split="val")
    batches = list(ready(module).val_dataloader())
    assert sum(len(batch["name"]) for batch in batches) == 20
    assert len({batch["image"].shape[2:] for batch in batches}) > 1
    assert max(len(batch["name"]) for batch in batches) > 1


# ---- with Lightning


class Recorder(LightningModule):
    """Learns nothing; keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.train_batches, self.val_names = {}, {}

    def training_step(self, batch, _):
        taken = self.train_batches.setdefault(self.current_epoch, [])
        taken.append((batch["name"], batch["image"].long().sum((1, 2, 3)).tolist()))
        return self.weight * 0

    def validation_step(self, batch, _):
        self.val_names.setdefault(self.current_epoch, []).extend(batch["name"])

    def configure_optimizers(self):
        # As every schedule asks. On a resume it starts the workers, which draw before they know the epoch.
        assert self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(tmp_path):
    def run(module, epochs, resume=None):
        recorder = Recorder()
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            use_distributed_sampler=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(recorder, datamodule=module, ckpt_path=resume)
        return recorder, trainer

    return run


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_a_trainer_gives_each_epoch_its_own_samples_also_after_a_restart(fit, street_module, tmp_path):
    whole, _ = fit(street_module(num_workers=1), epochs=3)
    assert [len(batches) for batches in whole.train_batches.values()] == [3, 3, 3]
    assert len({str(batches) for batches in whole.train_batches.values()}) == 3
    images = [image for batches in whole.train_batches.values() for _, sums in batches for image in sums]
    assert len(set(images)) == 36
    assert all(sorted(set(names)) == sorted(names) and len(names) == 7 for names in whole.val_names.values())

    _, trainer = fit(street_module(), epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rest, _ = fit(street_module(num_workers=1), epochs=3, resume=tmp_path / "last.ckpt")
    assert rest.train_batches == {epoch: whole.train_batches[epoch] for epoch in (1, 2)}


# ---- setting up


def test_files_are_looked_at_once(street_module, monkeypatch):
    splits = []
    original = datamodule.find_pairs
    monkeypatch.setattr(datamodule, "find_pairs", lambda *a: splits.append(a[2]) or original(*a))
    module = street_module()
    for stage in ("fit", "fit", "validate", None):
        module.setup(stage)
    assert splits == ["train", "val"]


def test_validation_needs_no_training_split(module_for, street):
    shutil.rmtree(street / "leftImg8bit" / "train")
    module = module_for("street", street)
    module.setup("validate")
    assert module.train_set is None
    assert len(module.val_set) == 7


def test_the_street_is_drawn_once(ready, module_for, tmp_path):
    street = {"train": 2, "val": 1, "width": 64, "height": 32, "seed": 0}
    module = module_for("street", tmp_path / "cache" / "street", street=street, batch_size=2)
    module.prepare_data()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    module.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == files
    assert len(ready(module).train_set) == 2


def test_wrong_files_stop_the_setup(module_for, street, refused):
    label = next((street / "gtFine" / "val").rglob("*_labelIds.png"))
    label.write_bytes(label.read_bytes()[:-1])
    with refused(label, "truncated"):
        module_for("street", street).setup("fit")


def test_no_dataset(module_for, shipped, refused):
    with refused("data.root is not set", "experiment=demo"):
        SegmentationDataModule({**shipped["cityscapes"][0], "root": None}, {}).setup("fit")


def test_a_split_without_labels_cannot_be_judged(module_for, street, refused):
    (street / "leftImg8bit" / "val").rename(street / "leftImg8bit" / "test")
    with refused(street, "'test'", "no public labels"):
        module_for("street", street, val_split="test").setup("validate")


def test_an_error_in_a_worker_of_the_loader(ready, module_for, street, refused):
    module = ready(module_for("street", street, num_workers=2))
    image = module.train_set.pairs[6].image
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 0xFF
    image.write_bytes(data)
    with refused(image, "damaged", "again") as shown:
        list(module.train_dataloader())
    assert shown.text.startswith(str(image))
