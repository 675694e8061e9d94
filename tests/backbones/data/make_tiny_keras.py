"""Make tiny_keras.onnx and tiny_keras.npz: a network that Keras trained nothing of and tf2onnx wrote.

Not run by the tests; TensorFlow is none of their packages. It was run once, with keras 3.15.1,
tensorflow-cpu 2.21.0, tf2onnx 1.17.0 and onnx 1.23.2::

    pip install tensorflow-cpu keras tf2onnx onnx
    python tests/backbones/data/make_tiny_keras.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent
SIDE = 32


def network() -> keras.Model:
    """Padding of one side only (stride 2, "same"), batch norm, a depthwise layer, a residual, ReLU6."""
    layers = keras.layers
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False, name="stem")(images)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = stem = layers.ReLU(max_value=6, name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(12, 1, name="project")(x)
    x = layers.Add(name="residual")([stem, x])
    x = layers.Conv2D(20, 3, strides=2, padding="same", name="last")(x)
    x = layers.Activation("swish", name="last_swish")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(5, activation="softmax", name="classifier")(x))


def pictures(rng: np.random.Generator) -> np.ndarray:
    """Four images (4, 32, 32, 3) uint8 with slopes, waves and grain."""
    y, x = np.mgrid[:SIDE, :SIDE]
    images = np.empty((4, SIDE, SIDE, 3))
    for image in images:
        for channel in range(3):
            a, b = rng.uniform(-3, 3, 2)
            wave = 60 * np.sin(rng.uniform(0.1, 1) * x + rng.uniform(0.1, 1) * y)
            image[..., channel] = 128 + a * (x - 16) + b * (y - 16) + wave
    return (images + rng.normal(0, 10, images.shape)).clip(0, 255).astype(np.uint8)


def main() -> None:
    rng = np.random.default_rng(0)
    model = network()
    images = pictures(rng)
    scaled = images.astype(np.float32) / 127.5 - 1
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            shape = tuple(layer.kernel.shape)
            fan_in = np.prod(shape[:2] if "depthwise" in layer.name else shape[:-1])
            layer.kernel.assign(rng.normal(0, (2 / fan_in) ** 0.5, shape))
            if layer.use_bias:
                layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics of one pass, as they are
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.1, layer.beta.shape))
    model(scaled, training=True)
    names = ("pool", "residual", "stem_relu", "classifier")
    parts = keras.Model(model.input, [model.get_layer(name).output for name in names])
    values = dict(zip(names, parts.predict(scaled, verbose=0), strict=True))
    np.savez_compressed(HERE / "tiny_keras.npz", images=images, **values)
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        convert = ["-m", "tf2onnx.convert", "--saved-model", folder]
        output = ["--output", str(HERE / "tiny_keras.onnx")]
        subprocess.run([sys.executable, *convert, *output], check=True)


if __name__ == "__main__":
    main()
