"""`python -m scripts.step_memory` counts what it says."""

import pytest

from scripts.step_memory import PHASES, count, count_traffic

SIZE, BATCH = (64, 128), 4


@pytest.mark.slow
def test_the_loss_takes_one_image_s_memory():
    whole, by_image = (count(BATCH, SIZE, False, False, by_image) for by_image in (False, True))
    assert by_image[0] == whole[0], "the network is the same"
    assert by_image[1] < whole[1] / 2
    full_size = BATCH * 19 * SIZE[0] * SIZE[1] * 4 / 1e9
    assert whole[1] == pytest.approx(2 * full_size, rel=0.2), "logits and their logarithms"
    assert by_image[3] < whole[3]


@pytest.mark.slow
def test_bf16_takes_half():
    full, half = (count(BATCH, SIZE, bf16, True, True) for bf16 in (False, True))
    assert half[0] == pytest.approx(full[0] / 2, rel=0.05)


@pytest.mark.slow
def test_the_lines_of_operations_are_the_whole():
    full, half = (count_traffic(BATCH, SIZE, bf16) for bf16 in (False, True))
    assert sum(full.kept.values()) / 1e9 == pytest.approx(count(BATCH, SIZE, False, False, True)[0], rel=0.02)
    for phase in PHASES:
        assert full.moved["upsampling", phase] == (
            # There and back, float32: the network's logits and those at full size.
            2 * BATCH * 19 * (1 + 1 / 64) * SIZE[0] * SIZE[1] * 4 if phase == "loss" else 0
        )
        ratio = half.moved["PReLU", phase] / (full.moved["PReLU", phase] or 1)
        assert ratio == pytest.approx(0 if phase == "loss" else 0.5, rel=0.01)
