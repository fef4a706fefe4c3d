"""Backend `tensorrt`: the network on the vehicle's GPU, one captured CUDA graph for each run of it.

    probe.py            driver -> import -> version: what this machine has, or exactly why it cannot
    driver.py           the seam to CUDA; pycuda, cuda-python and plain ctypes stand behind it
    engine_recipe.py    what an engine depends on, and its key
    engine_builder.py   ONNX -> engine, minutes of work, never while driving
    engine_cache.py     built engines on disk: atomic, bounded, the last good one kept
    engine.py           an engine, loaded: its tensors and its execution context
    tick_memory.py      all memory of all ticks: pinned here, its twin on the device
    tick_graphs.py      one captured graph for each ring slot, stream and turn of the states
    kernel_trial.py     the preprocessing kernel, loaded and believed only after a trial frame
    device_images.py    one stream's images, made on the device and copied back
    device_feed.py      from a frameset's source frames to those: the counterpart of image_feed
    trt_backend.py      the Backend

deploy/TENSORRT.md tells how to set a vehicle up, and what of this has run where.
"""
