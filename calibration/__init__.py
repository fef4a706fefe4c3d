"""Model calibration and camera calibration: INT8 ranges, quantised files, training of the bundled network, rigs."""
