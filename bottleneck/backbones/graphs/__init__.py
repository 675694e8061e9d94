"""Networks in ONNX files from anywhere: read, understood, cut, and composed anew for the engine."""
