"""Cameras: sources behind one protocol, decoding and preparing, and the assembler of framesets.

A packet goes one way, live and in replay alike: source -> `CameraPath` (decode, prepare) -> `Assembler` -> `Frameset`.
Only who calls differs: a thread for each camera when live, the replay loop otherwise.
"""
