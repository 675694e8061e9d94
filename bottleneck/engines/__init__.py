"""Engines: a cut network that runs, in PyTorch or ONNX Runtime, on a CPU or a GPU."""
