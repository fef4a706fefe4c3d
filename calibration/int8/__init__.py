"""Post-training INT8: sample frames, measure activation ranges, emit a QDQ file that ONNX Runtime runs fast.

sampling.py   frames from drives and images, through the runtime's own preprocessing, deterministic by seed
graph.py      the FP32 graph made ready: opset, constants, batch norm, who produces and who reads a tensor
plan.py       which nodes go to INT8 and which tensors need a range
ranges.py     activation ranges (percentile or min-max) and the file `ranges.json`
emit.py       FP32 graph + plan + ranges -> `model.cpu.qdq.onnx`
trt_plan.py   where TensorRT wants its pairs
emit_trt.py   the same ranges -> `model.trt.qdq.onnx`, and with fp16_body.py `model.trt.fp16.qdq.onnx`
emulation.py  such a file run on the CPU as it is written; trt_agreement.py: against the CPU file
trt_lint.py   what TensorRT refuses, with trt_operators.py; `shadowrig calibrate lint` (lint_command.py)
rtx_check.py  a build with tensorrt_rtx, which needs no GPU
agreement.py  INT8 against FP32 on held-out samples, and their speed in the same run
command.py    `shadowrig calibrate int8`
"""
