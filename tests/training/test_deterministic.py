"""trainer.deterministic=true works, and means the same metrics to the bit.

On CUDA torch raises an error, or with `warn` warns, for operations that have no deterministic kernel. Without
a GPU, what a training step calls is compared with torch's own list of them.
"""

import pytest
import torch
from front_doors import TINY
from torch.utils._python_dispatch import TorchDispatchMode

from src.network.segmenter import Segmenter
from src.network.upsample import _DeterministicUpsample, upsample
from src.training.losses import WeightedCrossEntropy
from src.weights.checkpoint_files import load_checkpoint

# Which operators the entries of torch.use_deterministic_algorithms' list "will throw a RuntimeError" are
# (torch 2.13). Without those that a meta tensor cannot tell from harmless ones, see the assertions below.
NOT_DETERMINISTIC_ON_CUDA = {
    "avg_pool3d_backward",
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "max_unpool2d",
    "max_unpool3d",
    "upsample_linear1d_backward",
    "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "nll_loss_forward",
    "_ctc_loss_backward",
    "_embedding_bag_dense_backward",
    "put_",
    "histc",
    "median",
    "nanmedian",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "cumsum",
    "scatter_reduce",
}


@pytest.fixture(autouse=True)
def afterwards():
    """Lightning sets it for the process."""
    yield
    torch.use_deterministic_algorithms(False)


class Calls(TorchDispatchMode):
    """Notes each operator with its arguments; those of the backward pass, too."""

    def __init__(self):
        super().__init__()
        self.noted: list[tuple[str, tuple]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.noted.append((func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "network",
    [
        {"_target_": "src.network.cgnet.CGNet"},
        {"_target_": "src.network.cgnet.CGNet", "activation": "relu", "dropout": 0.1, "residual": "local"},
        {"_target_": "src.network.pixelwise.PixelwiseClassifier"},
    ],
    ids=["cgnet", "variant", "pixelwise"],
)
def test_a_training_step_calls_nothing_that_is_not_deterministic_on_cuda(network, smoothing):
    """On the meta device, where `F.interpolate` does what it does on CUDA: it takes other operators."""
    torch.use_deterministic_algorithms(True)
    preprocessing = {"mean": [1, 2, 3], "std": [1, 1, 1]}
    segmenter = Segmenter.from_config({"num_classes": 19, "preprocessing": preprocessing, **network}).to(
        "meta"
    )
    loss = WeightedCrossEntropy([1.0] * 19, label_smoothing=smoothing).to("meta")
    optimizer = torch.optim.Adam(segmenter.parameters())
    image = torch.zeros(2, 3, 40, 56, dtype=torch.uint8, device="meta")
    with Calls() as calls:
        total, weight = loss(segmenter(image), image[:, 0])
        (total / weight).backward()
        torch.nn.utils.clip_grad_norm_(segmenter.parameters(), 1.0)
        optimizer.step()
    names = {name for name, _ in calls.noted}
    assert "convolution_backward" in names  # the backward pass was seen
    assert "upsample_bilinear2d" in names, "not what PyTorch makes of it in this mode, which moves 36 GB"
    assert not names & NOT_DETERMINISTIC_ON_CUDA
    # NLLLoss is on the list; its kernel for images adds up in any order only where it reduces.
    reductions = {args[3] for name, args in calls.noted if name == "nll_loss2d_forward"}
    assert reductions == {0}  # none


@pytest.mark.parametrize("size", [(64, 128), (33, 70), (5, 3)], ids=str)
def test_the_gradient_of_upsampling_by_matrices(size):
    coarse = torch.randn(2, 3, 8, 16, dtype=torch.float64)
    weights = torch.randn(2, 3, *size, dtype=torch.float64)
    found = []
    for way in (_DeterministicUpsample.apply, upsample):
        image = coarse.clone().requires_grad_()
        made = way(image, size)
        (made * weights).sum().backward()
        found.append((made.detach(), image.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("value", "mode"), [("true", 2), pytest.param("warn", 1, marks=pytest.mark.slow)])
def test_a_run_and_its_evaluation_twice(doors, value, mode):
    overrides = (*TINY, f"trainer.deterministic={value}", "trainer.max_epochs=1", "callbacks=ema")
    runs = [doors("train", *overrides, name=name) for name in ("one", "other")]
    assert [run.code for run in runs] == [0, 0], runs[0].err
    assert torch.get_deterministic_debug_mode() == mode
    assert "does not have a deterministic implementation" not in runs[0].out + runs[0].err
    one, other = (load_checkpoint(run.directory / "checkpoints/last.ckpt") for run in runs)
    for key, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][key]), key
    assert runs[0].metrics["confusion_matrix"] == runs[1].metrics["confusion_matrix"]
    checkpoint = f"checkpoint={runs[0].directory}/checkpoints/best.ckpt"
    judged = doors("eval", checkpoint, "trainer.accelerator=cpu", f"trainer.deterministic={value}")
    assert judged.code == 0, judged.err
    assert judged.metrics["confusion_matrix"] == runs[0].metrics["confusion_matrix"]
