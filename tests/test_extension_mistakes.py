"""Mistakes in a user's own network or loss have a message that names them."""

import pytest


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model=wrong", "model.mistake=init"), ["mylab.wrong.Wrong: KeyError: 'width' (wrong.py, line "]),
        (("model=wrong", "model.mistake=forward"), ["Wrong.forward fails on 2 images", "RuntimeError"]),
        (
            (
                *("model=wrong", "model.mistake=strides", "data.crop_size=[64,64]"),
                *("data.street.width=144", "data.street.height=80"),
            ),
            [
                "Wrong.forward fails on 2 images of 80x80 pixels (tried in the place of 144x80)",
                "multiples of",
            ],
        ),
        (("model=wrong", "model.mistake=channels"), ["logits has shape (2, 20, 64, 64)", "expected (2, 19,"]),
        (("model=wrong", "model.mistake=tuple"), ["Wrong returns a tuple: expected logits, or a dict"]),
        (("model=wrong", "model.mistake=out"), ["Wrong returns a dict with out: expected logits, or a dict"]),
        (
            ("model=wrong", "model.mistake=idle", "trainer.devices=2"),
            ["Wrong: 2 parameters without influence", "forgotten.weight", "lr_factor: 0"],
        ),
        (("model=wrong", "+model.with=3"), ["model.with"]),
        (("model=wrong", "model._target_=mylab.wrong.Wong"), ["Did you mean mylab.wrong.Wrong?"]),
        (
            ("model=wrong", "model._target_=mylab.wrung.Wrong"),
            ["No module named 'mylab.wrung'"],
        ),
        (("model=wrong", "model._target_=mylab.broken.Net"), ["No module named 'nothing_of_this_name'"]),
        (("model=wrong", "model._target_=math.gcd"), ["math.gcd"]),
        (
            ("model=unet", "auxiliary_weight={side: 0.4}"),
            ["has the heads side, but UNet has deep"],
        ),
        (("loss=wrong",), ["loss: WrongLoss gives", "not finite"]),
        (("loss=wrong", "loss.mistake=detached"), ["loss: WrongLoss has no gradient"]),
        (("loss=wrong", "loss.mistake=map"), ["WrongLoss returns a tensor (2, 64, 64)"]),
        (("loss=wrong", "loss.mistake=ignored"), ["loss: WrongLoss fails", "255 is not to be counted"]),
        (("--config-dir=elsewhere",), ["--config-dir is given twice"]),
        (("loss=wrong", "loss.mistake=index"), ["loss: WrongLoss fails", "(wrong.py, line "]),
        (("loss=focal", "+loss.gama=1"), ["loss.gama", "loss.gamma"]),
    ],
    ids=str,
)
def test_mistakes_are_named_before_anything_is_made(train, overrides, said):
    run = train(*overrides)
    assert run.code == 2, run.out + run.err
    assert all(text in run.err for text in said), run.err
    assert not run.directory.exists()
