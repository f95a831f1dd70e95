"""`python -m scripts.step_memory` counts what it says."""

import pytest

from scripts.step_memory import count

SIZE, BATCH = (64, 128), 4


def test_the_loss_takes_one_image_s_memory():
    whole, by_image = (count(BATCH, SIZE, False, False, by_image) for by_image in (False, True))
    assert by_image[0] == whole[0], "the network is the same"
    assert by_image[1] < whole[1] / 2
    full_size = BATCH * 19 * SIZE[0] * SIZE[1] * 4 / 1e9
    assert whole[1] == pytest.approx(2 * full_size, rel=0.2), "logits and their logarithms"
    assert by_image[3] < whole[3]


def test_bf16_takes_half():
    full, half = (count(BATCH, SIZE, bf16, True, True) for bf16 in (False, True))
    assert half[0] == pytest.approx(full[0] / 2, rel=0.05)
