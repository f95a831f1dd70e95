"""Files of a user's own, in a folder outside of this project, as docs/extending.md says."""

QUICK = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "trainer.detect_anomaly=false",
    "callbacks.pictures=null",
    "callbacks.last.every_n_train_steps=3",
)

FILES = {
    # A network of one's own: one class, one YAML. The auxiliary head is for training only.
    "mylab/unet.py": """
        import torch
        import torch.nn.functional as F
        from torch import nn


        def block(inputs, outputs):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            )


        class UNet(nn.Module):
            min_size = 16

            def __init__(self, num_classes, width=8):
                super().__init__()
                self.down = nn.ModuleList(block(i * width or 3, 2 * i * width or width) for i in (0, 1, 2))
                self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
                self.head = nn.Conv2d(width, num_classes, 1)
                self.deep = nn.Conv2d(4 * width, num_classes, 1)

            def forward(self, image):
                x, kept = image, []
                for stage in self.down:
                    x = stage(F.max_pool2d(x, 2) if kept else x)
                    kept.append(x)
                deep = self.deep(kept.pop())
                for stage in self.up:
                    side = kept.pop()
                    x = stage(torch.cat([F.interpolate(x, side.shape[-2:], mode="bilinear"), side], 1))
                return {"logits": self.head(x), "auxiliary": {"deep": deep}}
        """,
    "conf/model/unet.yaml": """
        _target_: mylab.unet.UNet
        num_classes: ${data.num_classes}
        width: 4
        preprocessing: {mean: "${data.mean}", std: "${data.std}"}
        """,
    # A backbone with pretrained weights, which only a new training loads, and a tenth of the learning rate.
    "mylab/backbone.py": """
        from pathlib import Path

        import torch
        from torch import nn

        FILE = Path(__file__).with_name("pretrained.pt")  # instead of a download


        class Backbone(nn.Module):
            def __init__(self, num_classes, width=8):
                super().__init__()
                self.encoder = nn.ModuleList([self.stage(3, width), self.stage(width, 2 * width)])
                self.head = nn.Conv2d(2 * width, num_classes, 1)
                self.side = nn.Conv2d(width, num_classes, 1)

            @staticmethod
            def stage(inputs, outputs):
                conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
                return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

            def forward(self, image):
                first = self.encoder[0](image)
                logits = self.head(self.encoder[1](first))
                return {"logits": logits, "auxiliary": {"side": self.side(first)}}

            def load_pretrained(self):
                self.encoder.load_state_dict(torch.load(FILE, weights_only=True))

            def param_groups(self, lr):
                heads = [*self.head.parameters(), *self.side.parameters()]
                return [{"params": self.encoder.parameters(), "lr": lr / 10}, {"params": heads}]
        """,
    "conf/model/backbone.yaml": """
        _target_: mylab.backbone.Backbone
        num_classes: ${data.num_classes}
        width: 4
        preprocessing: {mean: "${data.mean}", std: "${data.std}"}
        """,
    # A loss of one's own: (logits, target) -> a mean, or a sum and its weight.
    "mylab/focal.py": """
        import torch.nn.functional as F
        from torch import nn


        class Focal(nn.Module):
            def __init__(self, gamma=2.0):
                super().__init__()
                self.gamma = gamma

            def forward(self, logits, target):
                entropy = F.cross_entropy(logits, target.long(), ignore_index=255, reduction="none")
                return ((1 - (-entropy).exp()) ** self.gamma * entropy)[target != 255].mean()
        """,
    "conf/loss/focal.yaml": """
        _target_: mylab.focal.Focal
        gamma: 2.0
        """,
    # A dataset of one's own: JPEG images and RGB masks. Two colours become one class.
    "conf/data/parts.yaml": """
        defaults: [folder, _self_]
        name: parts
        classes:
          - {name: ground, colors: [[10, 20, 30]]}
          - {name: house, colors: [[128, 64, 128], [0, 0, 142]]}
          - {name: car, colors: [[255, 255, 0]]}
        ignored:
          colors: [[0, 0, 0]]
        batch_size: 4
        crop_size: [32, 64]
        """,
    "mylab/__init__.py": "",
}

# Something that a class of one's own may do wrong.
MISTAKES = {
    "mylab/wrong.py": """
        import torch
        from torch import nn


        class Wrong(nn.Module):
            def __init__(self, num_classes, mistake="", width=4):
                super().__init__()
                self.mistake = mistake
                self.levels = torch.linspace(0, 1, 4).tolist()  # no values on the device meta
                channels = num_classes + (mistake == "channels")
                self.head = nn.Conv2d(3, channels, 1)
                if mistake == "init":
                    raise KeyError("width")
                if mistake == "idle":
                    self.forgotten = nn.Conv2d(3, 4, 1)

            def forward(self, image):
                if self.mistake == "forward":
                    return self.head(image[:, :2])
                if self.mistake == "strides" and any(side % 32 for side in image.shape[-2:]):
                    raise ValueError("sides have to be multiples of 32")
                logits = self.head(image)
                if self.mistake == "tuple":
                    return logits, logits
                if self.mistake == "out":
                    return {"out": logits}
                return logits


        def loss(logits, target):
            return logits.sum((1, 2, 3))


        class WrongLoss(nn.Module):
            def __init__(self, mistake=""):
                super().__init__()
                self.mistake = mistake

            def forward(self, logits, target):
                entropy = nn.functional.cross_entropy
                if self.mistake == "index":
                    return entropy(logits, target.long() + 1, ignore_index=0)
                if self.mistake == "ignored":
                    return entropy(logits, target.long())
                if self.mistake == "detached":
                    return entropy(logits.detach(), target.long(), ignore_index=255)
                if self.mistake == "map":
                    return entropy(logits, target.long(), ignore_index=255, reduction="none")
                return logits.sum() / 0
        """,
    "conf/model/wrong.yaml": """
        _target_: mylab.wrong.Wrong
        num_classes: ${data.num_classes}
        mistake: ""
        preprocessing: {mean: "${data.mean}", std: "${data.std}"}
        """,
    "conf/loss/wrong.yaml": """
        _target_: mylab.wrong.WrongLoss
        mistake: ""
        """,
    "mylab/broken.py": "import nothing_of_this_name\n",
}
