"""What the doctor says of machines that this one is not."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from src.diagnosis import hardware as machine
from src.diagnosis.notes import MACHINE, Notes

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("mebibytes", "level"), [(64, "error"), (300, "remark"), (2000, None)])
def test_shared_memory(monkeypatch, tmp_path, mebibytes, level):
    """Docker's 64 MB against 4 workers with two batches of 32 MiB each."""
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(0, 0, mebibytes * 2**20))
    notes = Notes()
    machine.examine_loading(notes, workers=4, devices=1, batch_bytes=16 * 512 * 1024 * 4, cores=8)
    assert [finding.level for finding in notes.findings[MACHINE]] == ([level] if level else [])
    if level:
        assert "--shm-size" in notes.findings[MACHINE][0].text


def test_no_workers_need_no_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    notes = Notes()
    machine.examine_loading(notes, workers=0, devices=1, batch_bytes=2**25, cores=8)
    assert not notes.findings[MACHINE]


@pytest.mark.parametrize(("mebibytes", "level"), [(10, "error"), (500, "remark"), (5000, None)])
def test_disk_space(monkeypatch, tmp_path, mebibytes, level):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(0, 0, mebibytes * 2**20))
    notes = Notes()
    machine.examine_disks(notes, str(tmp_path / "not" / "yet"), str(tmp_path))
    levels = [finding.level for finding in notes.findings[MACHINE]]
    assert levels == ([level] if level else [])  # once: what a cache needs is looked at elsewhere


def test_more_workers_than_cores():
    notes = Notes()
    machine.examine_loading(notes, workers=4, devices=4, batch_bytes=1, cores=8)
    assert "16 data workers" in notes.findings[MACHINE][0].text


def test_a_package_of_another_version(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "0.0.1" if name == "albumentations" else "99")
    notes = Notes()
    machine.examine_machine(notes)
    found = [finding.text for finding in notes.findings[MACHINE] if finding.kind == "package"]
    assert any("albumentations 0.0.1: not tested" in text and "pip install" in text for text in found)


def test_gpus_are_described(monkeypatch):
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    notes = Notes()
    machine.examine_machine(notes)
    one = "NVIDIA H100, 80.0 GiB, compute capability 9.0, bf16"
    assert notes.facts[MACHINE]["GPU"] == f"{one}; {one}"
    assert not [finding for finding in notes.findings[MACHINE] if "GPU" in finding.kind]


def test_a_gpu_that_pytorch_cannot_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    notes = Notes()
    machine.examine_machine(notes)
    assert [finding.kind for finding in notes.findings[MACHINE] if "GPU" in finding.kind] == [
        "GPU not usable"
    ]
