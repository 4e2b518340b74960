"""Compiles one CUDA source with NVRTC: nvrtc.py LIBRARY SOURCE OUT OPTION... (PTX for compute_NN, else a cubin)."""

import ctypes
import sys

library, source, out, *options = sys.argv[1:]
nvrtc = ctypes.CDLL(library)
program = ctypes.c_void_p()
size = ctypes.c_size_t()


def check(status):
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"NVRTC: {nvrtc.nvrtcGetErrorString(status).decode()}")


def fetch(what):
    check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    check(getattr(nvrtc, f"nvrtcGet{what}")(program, text))
    return text.raw


with open(source, "rb") as file:
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), file.read(), source.encode(), 0, None, None))
words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
status = nvrtc.nvrtcCompileProgram(program, len(options), words)
sys.stderr.write(fetch("ProgramLog").rstrip(b"\0").decode())
if status:
    sys.exit(1)
ptx = any("=compute_" in option for option in options)
with open(out, "wb") as file:
    file.write(fetch("PTX").rstrip(b"\0") if ptx else fetch("CUBIN"))
