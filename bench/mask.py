"""Hides instruction sets from this process, so that libraries loaded afterwards run as on an older machine.

Sinter and its peers look at CPUID; where the kernel lets it fault, mask/cpuid.c answers it without the newer sets. Every
thread started after hide() is fooled too. Nothing changes for child processes.
"""

import ctypes
import os
import subprocess
import tempfile

LEVELS = ("amx", "avx512_bf16", "avx512", "avx2", "portable")  # Sinter's names, newest first
# Leaf, subleaf, register and bit that tell a level.
TELLING = {"amx": (7, 0, 3, 24), "avx512_bf16": (7, 1, 0, 5), "avx512": (7, 0, 1, 16), "avx2": (7, 0, 1, 5)}
_library = None


def _loaded():
    global _library
    if _library is None:
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mask", "cpuid.c")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mask.so")
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", path], check=True, capture_output=True, text=True)
            _library = ctypes.CDLL(path)
    return _library


def hide(level):
    """Hides what is newer than `level`. Nothing when it worked, else why not."""
    if level == LEVELS[0]:
        return None
    try:
        error = _loaded().mask_hide(LEVELS.index(level))
    except (OSError, subprocess.CalledProcessError) as problem:
        return f"cannot compile bench/mask: {problem}"
    return f"this kernel or CPU cannot make CPUID fault ({os.strerror(error)})" if error else None


def seen():
    """The newest level that CPUID tells this thread of; "all" where it cannot be asked."""
    try:
        _loaded()
    except (OSError, subprocess.CalledProcessError):
        return "all"
    for level, (leaf, part, register, bit) in TELLING.items():
        words = (ctypes.c_uint32 * 4)()
        _loaded().mask_ask(leaf, part, words)
        if words[register] >> bit & 1:
            return level
    return LEVELS[-1]


def answers():
    """How often CPUID was answered so far."""
    return _loaded().mask_answers() if _library else 0
