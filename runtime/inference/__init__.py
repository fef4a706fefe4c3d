"""The candidate network, from a frameset to a prediction and on to tracks.

`network.Network` is the room's door: it opens a model bundle (`bundle`), runs it on a backend (`backend` is the
protocol, `onnx_backend` the CPU's) and decodes the heads (`heads/`). What a network may take is in `inputs`; what
enters comes from `image_feed`, `calibration_feed` and `states`. `tracking.Tracker` follows what the detection heads
found. `model_import` makes a bundle of somebody else's ONNX file.
"""
