"""Post-training INT8: sample frames, measure ranges, find the mixture that keeps the answers, emit the files.

sampling.py, feeds.py   frames from drives and images, through the runtime's own preprocessing, deterministic by seed
graph.py                the FP32 graph made ready: opset, constants, batch norm, who produces and who reads a tensor
plan.py, trt_plan.py    which nodes go to INT8 and which tensors need a range, for ONNX Runtime and for TensorRT
ranges.py, histograms.py   activation ranges, the four methods that cut them, and the file `ranges.json`
emit.py                 FP32 graph + plan + ranges -> `model.cpu.qdq.onnx`
emit_trt.py             the same ranges -> `model.trt.qdq.onnx`, and with fp16_body.py `model.trt.fp16.qdq.onnx`
emulation.py            such a file run on the CPU as it is written; trt_agreement.py: against the CPU file
trt_lint.py             what TensorRT refuses, with trt_operators.py; `shadowrig calibrate lint` (lint_command.py)
rtx_check.py            a build with tensorrt_rtx, which needs no GPU
gate.py, limits.py      whether a file still says what FP32 says, head by head (ACCURACY.md)
sensitivity.py          how much noise each layer's INT8 alone puts on the outputs
mixed_precision.py      leaves the worst layers in floating point until the gate passes
trade.py, trade_plot.py   accuracy against latency of all mixtures that were tried: table and picture
agreement.py            INT8 against FP32 in speed, with its uncertainty
bundle_files.py         drafts of all files, and how they get into a bundle together
report.py, command.py   `shadowrig calibrate int8` and `emit`
"""
