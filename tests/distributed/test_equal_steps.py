"""N processes with a share of the batch each, against one process with the whole batch."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from equal_steps import BATCH, FULL, TURNS, FrozenNorm, first_step, fit, fit_all, on_devices

from src.street import write_street


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """8 training scenes. Those of the second of two devices have labels in every 16th row ("few") or none at
    all ("half")."""
    folder = tmp_path_factory.mktemp("street")
    write_street(folder / "few", {"train": BATCH, "val": 4}, width=128, height=64, seed=3)
    shutil.copytree(folder / "few", folder / "half")
    for kind in ("few", "half"):
        labels = sorted((folder / kind).glob("gtFine/train/*/*labelIds.png"))
        for index in first_step()[BATCH // 2 :]:
            ids = cv2.imread(str(labels[index]), cv2.IMREAD_UNCHANGED)
            ids[np.arange(len(ids)) % 16 != 0 if kind == "few" else slice(None)] = 0
            cv2.imwrite(str(labels[index]), ids)
    return folder


@pytest.fixture(
    scope="module",
    params=["FEW", *(pytest.param(name, marks=pytest.mark.slow) for name in ("CASES", "WIDE"))],
)
def cases(request):
    return request.param


@pytest.fixture(scope="module")
def alone(cases, street, cache_dir):
    return fit_all(cases, street, cache_dir)


@pytest.fixture(scope="module")
def together(cases, street, cache_dir, tmp_path_factory):
    """Float32 on 2 devices, float64 on 4: a device's only sample is multiplied by other routines of MKL, and
    float32's last bit flips the sign of an activation."""
    devices = 4 if cases == "WIDE" else 2
    return on_devices(devices, street, cache_dir, tmp_path_factory.mktemp("together"), cases)


def assert_equal_steps(found, expected, wide):
    """Within the bars of float32, or of float64 if `wide`; gradients and statistics in units of the largest
    entry of each tensor."""
    assert len(expected["gradients"]) >= 77
    bars = {"gradients": (1e-9, 1e-4), "weights": (1e-10, 1e-6), "statistics": (1e-12, 1e-6)}
    for kind, (in_float64, in_float32) in bars.items():
        for name, values in expected[kind].items():
            unit = 1 if kind == "weights" else values.abs().max() or 1
            apart = float((found[kind][name] - values).abs().max() / unit)
            assert apart <= (in_float64 if wide else in_float32), f"{kind} of {name}"
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-12 if wide else 1e-6, atol=0)


def test_n_devices_equal_one(alone, together):
    for case, found in together[0].items():
        if "losses" not in case:
            wide = found["weights"]["segmenter.network.stage1.0.conv.weight"].dtype == torch.float64
            assert_equal_steps(found, alone[case], wide)


def test_devices_agree_to_the_bit_and_share_the_samples(alone, together):
    for case, first in together[0].items():
        for other in together[1:]:
            for kind in ("weights", "statistics"):
                assert all(torch.equal(other[case][kind][n], v) for n, v in first[kind].items()), (case, kind)
        names = sorted(name for one in together for name in one[case]["names"])
        assert names == sorted(alone[case]["names"])
        assert first["names"] != alone[case]["names"]


def test_the_recipe_does_not_depend_on_the_number_of_devices(alone, together):
    for case, found in together[0].items():
        for key in ("rates", "steps", "planned steps"):
            assert found[key] == alone[case][key], (case, key)
        assert len(alone[case]["losses"]) == alone[case]["steps"] == alone[case]["planned steps"]


@pytest.mark.slow
@pytest.mark.parametrize("cases", ["CASES"], indirect=True)
def test_twenty_losses_are_no_further_apart_than_in_another_order(alone, together):
    def apart(losses):
        return float((losses - alone["20 losses"]["losses"]).abs().max())

    in_other_orders = [apart(alone[f"turned {turn}"]["losses"]) for turn in TURNS]
    print(apart(together[0]["20 losses"]["losses"]), in_other_orders)
    assert 0 < apart(together[0]["20 losses"]["losses"]) <= 3 * max(in_other_orders)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_batches_are_the_whole_batch_but_for_batchnorm(street, cache_dir, parts):
    overrides = ("optimizer=sgd", "trainer.precision=64-true", "labels=half")
    whole = fit(street, cache_dir, overrides, FrozenNorm())
    shared = (*overrides, f"trainer.accumulate_grad_batches={parts}")
    assert_equal_steps(fit(street, cache_dir, shared, FrozenNorm()), whole, wide=True)


@pytest.mark.slow
def test_the_whole_network(street, cache_dir, tmp_path_factory):
    one = fit_all("FULL", street, cache_dir)
    both = on_devices(2, street, cache_dir, tmp_path_factory.mktemp("full"), "FULL")
    for case in FULL:
        assert len(one[case]["gradients"]) > 330
        assert_equal_steps(both[0][case], one[case], wide="float64" in case)
