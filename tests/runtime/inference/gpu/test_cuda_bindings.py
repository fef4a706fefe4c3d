"""Every binding behind the driver seam does the same tick, over the same fake driver, in a process of its own.

pycuda has no wheels and is built from source (2.5 minutes on two cores), so continuous integration runs it only where
somebody installed it; so does cuda-python.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, compile_fake, has_compiler
from tests.runtime.inference.tiny_networks import mean_manifest, mean_network, write_bundle

pytestmark = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
PACKAGES = {"pycuda": "pycuda", "cuda-python": "cuda", "ctypes": "ctypes"}


@pytest.mark.parametrize("binding", sorted(PACKAGES))
def test_a_binding_does_one_launch_and_one_wait_a_tick(binding: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(PACKAGES[binding]) is None:
        pytest.skip(f"{binding} is not installed (pip install {binding})")
    library = compile_fake(tmp_path, soname="libcuda.so.1")
    bundle = write_bundle(tmp_path / "bundle", mean_manifest(2), {"fp32": mean_network(2)})
    module = "tests.runtime.inference.gpu.cuda_binding_process"
    command = [sys.executable, "-m", module, binding, str(library), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["binding"].startswith(binding)
    assert told["device"] == "Fake Orin (sm_87, 1.0 GiB, driver for CUDA 12.6)"
    assert told["is_right"]
    assert told["calls_of_ten_ticks"] == {"cuGraphLaunch": 10, "cuStreamSynchronize": 10}
    assert told["kernel_saw"] == "12345678"
    assert told["pinned_elsewhere"] == 4096
    assert "not permitted when stream is capturing" in told["in_capture"]
    assert "out of memory" in told["out_of_memory"]
    assert "free GPU memory" in told["out_of_memory"]
    assert done.stderr == ""  # pycuda complains there when its stack of contexts is not empty at the end
