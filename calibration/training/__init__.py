"""Training of the bundled network `hydra_mini`: network, losses, data set, evaluation, export.

Only `network`, `losses`, `train` and `export` need PyTorch (the optional dependency `shadowrig[train]`); the data set,
the metrics and the evaluation of ONNX files run without it.
"""
