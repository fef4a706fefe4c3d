"""TensorRT on the vehicle's GPU: preprocessing, engine and results in one captured graph a tick."""
