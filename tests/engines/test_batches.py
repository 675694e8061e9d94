"""An image's feature does not depend on its company: batch mates, place, threads, order of files."""

import shutil
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest


@pytest.fixture(params=["eager", "onnx"])
def engine(request):
    return request.param


@pytest.fixture
def features(engine, generated, tmp_path):
    """Features by name, extracted into a new file from copies in the order that is asked for."""
    made = iter(range(100))

    def extract(names: list[str], *, batch_size: int, workers: int = 2) -> dict[str, np.ndarray]:
        root = tmp_path / f"run{next(made)}"
        root.mkdir()
        source = {path.name: path for path in generated}
        for place, name in enumerate(names):
            shutil.copy(source[name], root / f"{place:02d} {name}")
        cache = bp.extract(
            root,
            output=tmp_path / f"{root.name}.h5",
            engine=engine,
            device="cpu",
            batch_size=batch_size,
            workers=workers,
            quiet=True,
        )
        return dict(zip([Path(p).name[3:] for p in cache.paths], cache.features[:], strict=True))

    return extract


def test_a_feature_is_bitwise_the_same_in_any_company(features, generated):
    names = [path.name for path in generated]
    whole = features(names, batch_size=4, workers=1)  # 7 images: a full batch and one of three
    others = {
        "reversed": features(names[::-1], batch_size=4, workers=3),
        "rotated": features(names[3:] + names[:3], batch_size=4, workers=2),
        "alone": features(names[5:6], batch_size=4),
    }
    for what, other in others.items():
        for name, feature in other.items():
            assert feature.tobytes() == whole[name].tobytes(), (what, name)


def test_a_feature_is_the_same_in_batches_of_any_size(features, generated):
    names = [path.name for path in generated]
    whole = features(names, batch_size=4)
    for batch_size in (1, 5):  # 5 ends in a short batch
        for name, feature in features(names, batch_size=batch_size).items():
            gap = np.linalg.norm(feature - whole[name]) / np.linalg.norm(whole[name])
            assert gap <= 1e-5, (batch_size, name)
