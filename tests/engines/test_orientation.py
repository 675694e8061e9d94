"""One picture stored in all eight orientations of EXIF is one picture to the network."""

import io

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe.engines.gate import cosine
from networks import picture
from PIL import Image

# How each orientation stores a picture: what a viewer has to undo (EXIF 2.32, tag 274).
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def stored(upright, orientation, tagged=True):
    """A PNG with the orientation's tag, or without."""
    exif = Image.Exif()
    if tagged:
        exif[0x0112] = orientation
    file = io.BytesIO()
    pixels = np.ascontiguousarray(STORED[orientation](upright))
    Image.fromarray(pixels).save(file, "PNG", exif=exif.tobytes())
    return file.getvalue()


def test_features_do_not_depend_on_the_orientation():
    upright = np.asarray(picture(3, (500, 375)))
    images = [stored(upright, orientation) for orientation in STORED]
    features = bp.embed([*images, stored(upright, 6, tagged=False)], engine="eager", batch_size=3)
    cosines = cosine(features[:8], np.repeat(features[:1], 8, axis=0))
    assert cosines.min() >= 0.999
    # That the tag counts at all: lying on its side, the picture is another one.
    assert cosine(features[8:], features[:1])[0] < 0.99
