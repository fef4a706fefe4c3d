"""NVRTC, NVIDIA's compiler as a library, through ctypes: the vehicle's own toolkit makes what ours could not.

It needs no GPU, no headers and no nvcc; JetPack and the CUDA toolkit bring `libnvrtc.so`, and NVIDIA's Python wheels
(nvidia-cuda-nvrtc, nvidia-cuda-nvrtc-cu12) bring it alone. The calls are those of the NVRTC manual, the same in CUDA
11.2 to 13.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Newest first: within a major version a driver takes what any of its toolkits made.
_SONAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")
_TOOLKIT_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")
_WHEEL_FOLDERS = ("nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib")


class NvrtcError(RuntimeError):
    """NVRTC is not there, or refused the source: the message holds its log."""


class Nvrtc:
    """One NVRTC library."""

    def __init__(self, path: str) -> None:
        """Raises NvrtcError when `path` cannot be loaded or is no NVRTC."""
        self.path = path
        try:
            for builtins in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")) if "/" in path else ():
                ctypes.CDLL(str(builtins))  # outside the loader's folders NVRTC finds it only once it is loaded
            self._library = ctypes.CDLL(path)
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            major, minor = ctypes.c_int(), ctypes.c_int()
            self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        except (OSError, AttributeError) as error:
            raise NvrtcError(f"{path} is no NVRTC library that can be loaded: {error}") from error
        self.version = (major.value, minor.value)

    def compile(self, source: bytes, name: str, architecture: str) -> bytes:
        """A cubin (`architecture` "sm_87") or PTX text ("compute_75") of CUDA C++ source.

        Raises NvrtcError with the compiler's log.
        """
        library, program = self._library, ctypes.c_void_p()
        self._check(
            library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None),
            "nvrtcCreateProgram",
        )
        try:
            options = (ctypes.c_char_p * 2)(f"--gpu-architecture={architecture}".encode(), b"--std=c++17")
            with _own_locale():
                result = library.nvrtcCompileProgram(program, len(options), options)
            if result != 0:
                log = self._get(program, "ProgramLog").rstrip(b"\0\n").decode(errors="replace")
                raise NvrtcError(f"NVRTC {self._version} cannot compile {name} for {architecture}: {log}")
            if architecture.startswith("sm_"):
                return self._get(program, "CUBIN")
            return self._get(program, "PTX").rstrip(b"\0")
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    @property
    def _version(self) -> str:
        return f"{self.version[0]}.{self.version[1]} ({self.path})"

    def _get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"nvrtcGet{what}Size")
        text = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, text), f"nvrtcGet{what}")
        return text.raw

    def _check(self, result: int, call: str) -> None:
        if result != 0:
            raise NvrtcError(f"{call} of {self.path}: {self._library.nvrtcGetErrorString(result).decode()}")


@contextmanager
def _own_locale() -> Iterator[None]:
    """NVRTC 12.0 leaves its thread with the locale "C", in which Python no longer reads UTF-8: put the old one back."""
    libc = ctypes.CDLL(None)
    libc.uselocale.argtypes, libc.uselocale.restype = [ctypes.c_void_p], ctypes.c_void_p
    before = libc.uselocale(None)
    try:
        yield
    finally:
        libc.uselocale(before)


def find_nvrtc(newest_major: int | None = None) -> Nvrtc:
    """The newest NVRTC here, of at most CUDA `newest_major`: what a driver of that version can load from.

    Raises NvrtcError that says where it looked and what it found.
    """
    found = []
    for path in _candidates():
        try:
            nvrtc = Nvrtc(path)
        except NvrtcError:
            continue  # that one is not here; the message below names all places
        if newest_major is None or nvrtc.version[0] <= newest_major:
            return nvrtc
        found.append(nvrtc._version)
    too_new = f"; found only {', '.join(found)}, too new for this driver" if found else ""
    raise NvrtcError(
        f"no NVRTC for CUDA {newest_major or 'of any version'}: looked for {', '.join(_SONAMES)} where the loader "
        f"looks, in {', '.join(_TOOLKIT_FOLDERS)} and in NVIDIA's Python wheels{too_new}; install the CUDA toolkit's "
        "libnvrtc"
    )


def _candidates() -> Iterator[str]:
    yield from _SONAMES
    for folder in _TOOLKIT_FOLDERS:
        yield from (str(path) for soname in _SONAMES if (path := Path(folder, soname)).exists())
    for entry in sys.path:
        for folder in _WHEEL_FOLDERS:
            yield from (str(path) for soname in _SONAMES if (path := Path(entry, folder, soname)).exists())
