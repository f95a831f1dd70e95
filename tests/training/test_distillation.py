"""The teacher's term against a formula written out, and what a training with a teacher leaves behind."""

import math

import pytest
import torch
from torch import nn

from src.network.segmenter import Segmenter
from src.training.distillation import Teacher


class Fixed(nn.Module):
    """Returns the same logits for every image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image):
        return self.logits


def teacher_of(logits, **keys):
    return Teacher(Segmenter(Fixed(logits), [0.0] * 3, [1.0] * 3), **keys)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_term_is_its_formula(temperature):
    generator = torch.Generator().manual_seed(0)
    student, logits = (3 * torch.randn(2, 3, 2, 2, generator=generator) for _ in range(2))
    student.requires_grad_()
    teacher = teacher_of(logits, temperature=temperature, weight=0.5)
    (term,) = teacher({"logits": student}, {"image": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)})

    def softened(values):
        powers = [math.exp(value / temperature) for value in values]
        return [power / sum(powers) for power in powers]

    divergence, gradient = 0.0, torch.zeros_like(student)
    for b, y, x in [(b, y, x) for b in range(2) for y in range(2) for x in range(2)]:
        p, q = softened(logits[b, :, y, x].tolist()), softened(student[b, :, y, x].tolist())
        divergence += temperature**2 * sum(a * math.log(a / c) for a, c in zip(p, q, strict=True))
        # d/ds of T^2 KL(p || softmax(s / T)) = T (softmax(s / T) - p)
        gradient[b, :, y, x] = temperature * (torch.tensor(q) - torch.tensor(p))
    assert term.total.item() == pytest.approx(divergence, rel=1e-5)
    assert term.weight == 8
    assert term.value.item() == pytest.approx(0.5 * divergence / 8, rel=1e-5)
    (found,) = torch.autograd.grad(term.total, student)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)
    assert teacher.segmenter.network.logits.grad is None


def test_a_teacher_of_another_output_size_is_resized():
    student = torch.zeros(1, 3, 4, 4)
    teacher = teacher_of(torch.randn(1, 3, 2, 2))
    (term,) = teacher({"logits": student}, {"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)})
    assert term.weight == 16
    assert term.total > 0
