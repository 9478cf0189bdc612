"""Sinter compiles trained networks (ONNX) into engines and runs them.

    import sinter
    engine = sinter.build("model.onnx")          # or sinter.load("model.engine")
    y = engine(x)                                # arrays in, arrays out
    engine.save("model.engine")

Arrays may be NumPy's or anything with DLPack on the CPU; contiguous ones are read where they lie, and results are
written by the network straight into the arrays that are returned. Errors are sinter.Error with the attributes code,
node, tensor and hint.
"""

import os
import sys
import threading
from typing import NamedTuple, Optional

import numpy as np

from . import _protos, _sinter
from ._sinter import Error

__version__ = _sinter.version
__all__ = ["build", "load", "load_plugins", "Engine", "Context", "Memory", "TensorInfo", "Error", "__version__"]

_LEVELS = {"error": 0, "warning": 1, "info": 2, "verbose": 3, "debug": 4}
_LEVEL_NAMES = list(_LEVELS)
_NUMPY = {sinter: numpy for _, sinter, numpy in _protos.TYPES}
_NUMPY["string"] = "object"
# Types that NumPy lacks: their names in ml_dtypes, which is used where it is installed, else void bits.
_ML_DTYPES = {
    "bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz", "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0": "float8_e8m0fnu", "f4e2m1": "float4_e2m1fn", "u4": "uint4", "i4": "int4",
    "u2": "uint2", "i2": "int2",
}
_BITS = {"f4e2m1": 4, "u4": 4, "i4": 4, "u2": 2, "i2": 2}
_SINTER = {numpy: sinter for sinter, numpy in {**_NUMPY, **_ML_DTYPES}.items()}


def _ml_dtype(name):
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype("V2") if name == "bf16" else np.dtype("V1")
    return np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))


class TensorInfo:
    """An input or output: name, kind, dtype (NumPy's or ml_dtypes' name), shape, and type as text.

    kind is "tensor", "sequence", "map" or "optional", type as in "f32[N, 3]" or "seq(map(string, f32))". shape is a tuple of numbers and, for extents that vary, texts such as "N" or "H/2"; None when the rank is unknown.

    under, of an output, names the input over which it may be written: a cache, say (Engine.context, docs/caches.md).
    """

    def __init__(self, info, inputs=()):
        self.under = None if info.under is None else inputs[info.under].name
        self.name = info.name
        self.kind = info.kind
        self.type = info.type
        self._dtype = info.dtype
        self.dtype = None if info.kind != "tensor" else _NUMPY.get(info.dtype) or _ML_DTYPES[info.dtype]
        self.shape = None if info.shape is None else tuple(info.shape)

    def __repr__(self):
        what = f"{self.dtype}{'' if self.shape is None else list(self.shape)}" if self.kind == "tensor" else self.type
        return f"<{self.name}: {what}>"


class Context:
    """A running instance of an engine: threads that share one take turns, so make one for each thread."""

    def __init__(self, engine, threads=0, in_place=False):
        self.engine = engine
        self._under = [(o, info.under) for o, info in enumerate(engine.outputs) if in_place and info.under is not None]
        self._turn = threading.RLock()   # inputs set by one thread must not be run by another
        self._native = _sinter.Context(engine._native, threads)
        # Whether arrays pass through as they are.
        self._arrays = not self._under and all(i.kind == "tensor" and i._dtype != "string" and i._dtype not in _ML_DTYPES
                           for i in (*engine.inputs, *engine.outputs))

    def run(self, *args, **kwargs):
        """Runs with inputs in order, by name, or both. Returns a list of the outputs.

        Tensors are arrays, sequences lists, maps dicts (the probabilities of a classifier, "seq(map(string, f32))", are
        a list of dicts), empty optionals None.

        A dict alone gives the inputs by name, unless the first input is a map: then it is that one. Raises sinter.Error
        for shapes, dtypes and data that do not fit, TypeError for inputs that are missing.
        """
        if self._arrays and not kwargs:
            with self._turn:
                results = self._native.run_arrays(args)
            if results is not None:
                return results
        inputs = self.engine.inputs
        if len(args) == 1 and isinstance(args[0], dict) and not kwargs and not (inputs and inputs[0].kind == "map"):
            args, kwargs = (), args[0]
        return self._run(args, kwargs)

    def _run(self, args, kwargs):
        inputs = self.engine.inputs
        if len(args) > len(inputs):
            raise TypeError(f"{len(args)} inputs given, the engine takes {len(inputs)}")
        values = dict(zip((i.name for i in inputs), args))
        for name, value in kwargs.items():
            if name in values:
                raise TypeError(f"input '{name}' is given twice")
            values[name] = value
        unknown = set(values) - {i.name for i in inputs}
        if unknown:
            raise TypeError(f"the engine has no input named {', '.join(map(repr, sorted(unknown)))}; it has "
                            + ", ".join(repr(i.name) for i in inputs))
        with self._turn:
            for index, info in enumerate(inputs):
                if info.name not in values:
                    raise TypeError(f"input '{info.name}' is missing")
                self._set(index, info, values[info.name])
            results = self._native.run([(o, self._writable(o, values[under])) for o, under in self._under])
        over = dict(self._under)
        return [values[over[o]] if o in over else self._result(info, results[o])
                for o, info in enumerate(self.engine.outputs)]

    def _writable(self, output, array):
        """What the native half writes of an input's array, which becomes an output."""
        info = self.engine.outputs[output]
        ok = isinstance(array, np.ndarray) and array.dtype.name == info.dtype and array.dtype.isnative
        if not ok or not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            raise TypeError(f"input '{info.under}', over which output '{info.name}' is written: a contiguous, writeable "
                            f"array of {info.dtype} is wanted")
        return array.view(np.uint8) if info._dtype in _ML_DTYPES else array

    def on_value(self, tap):
        """Calls tap(sources, array) with every intermediate value of later runs; None stops that.

        sources names the nodes of the model that the value came from. Results of runs do not change.
        """
        if tap is not None and not callable(tap):
            raise TypeError(f"a tap is called with (sources, array); {type(tap).__name__} cannot be called")
        with self._turn:
            self._native.set_tap(tap)

    @property
    def memory(self):
        """Bytes held for intermediate values and outputs."""
        return self._native.memory()

    def _set(self, index, info, value):
        if info.kind == "sequence":
            if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
                raise TypeError(f"input '{info.name}': a sequence of arrays is wanted, not {type(value).__name__}")
            return self._native.set_input_proto(index, _protos.encode_sequence(value))
        if info.kind == "map":
            if not hasattr(value, "keys") or not hasattr(value, "values"):
                raise TypeError(f"input '{info.name}': a dict is wanted, not {type(value).__name__}")
            try:
                proto = _protos.encode_map(value, *info.type[len("map("):-1].split(", "))
            except (TypeError, ValueError) as error:
                raise TypeError(f"input '{info.name}', {info.type}: {error}") from None
            return self._native.set_input_proto(index, proto)
        if info.kind == "optional":
            return self._native.set_input_proto(index, _protos.encode_optional(value))
        if info._dtype == "string":
            return self._native.set_input_proto(index, _protos.encode_tensor(value))
        if isinstance(value, np.ndarray):
            if not value.flags.aligned:
                value = value.copy()
        elif isinstance(value, (bool, int, float, complex, list, tuple)) and info._dtype in _NUMPY:
            value = np.asarray(value, dtype=_NUMPY[info._dtype])   # Python's numbers have no width of their own
        try:
            return self._native.set_input(index, value)
        except TypeError:
            pass
        array = np.asarray(value)
        name = _SINTER.get(array.dtype.name)
        if array.dtype.kind == "V" and name is None:
            name = info._dtype
        if name is None or array.dtype.kind in "OSU":
            raise TypeError(f"input '{info.name}': {type(value).__name__} of {array.dtype} is no array of numbers")
        # What DLPack cannot carry goes by its bits; non-contiguous, foreign-endian and read-only arrays are copied.
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        if name in _BITS:
            return self._native.set_packed_input(index, _pack(array, _BITS[name]), name, list(array.shape))
        if name in _ML_DTYPES:
            array = array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)
        return self._native.set_input(index, array, name)

    def _result(self, info, value):
        if "map(" in info.type:
            return value
        if info.kind == "sequence":
            return _protos.decode_sequence(value)
        if info.kind == "optional":
            return _protos.decode_optional(value)
        name = info._dtype
        if name == "string":
            return _protos.decode_tensor(value)
        if name in _BITS:
            return _unpack(value[0], _BITS[name], name, value[1])
        if name in _ML_DTYPES:
            return value.view(_ml_dtype(name))
        return value


def _pack(array, bits):
    """Elements of one byte each into packed ones, low bits first."""
    values = array.reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    each = 8 // bits
    values = np.concatenate([values, np.zeros(-len(values) % each, np.uint8)]).reshape(-1, each)
    return np.ascontiguousarray(sum(values[:, i] << (bits * i) for i in range(each)).astype(np.uint8))


def _unpack(data, bits, name, shape):
    """Packed elements as one byte each: small integers, or the bits of what NumPy lacks."""
    each = 8 // bits
    parts = np.stack([data >> (bits * i) & ((1 << bits) - 1) for i in range(each)], axis=-1).reshape(-1)
    parts = parts[:int(np.prod(shape, dtype=np.int64))].astype(np.uint8)
    if name in ("i4", "i2"):
        parts = ((parts ^ (1 << (bits - 1))).astype(np.int8) - (1 << (bits - 1))).astype(np.int8)
    dtype = _ml_dtype(name)
    if dtype.kind == "V" and dtype.names is None and not dtype.type.__module__.startswith("ml_dtypes"):
        return parts.reshape(shape).view(dtype)
    return (parts.view(dtype) if name == "f4e2m1" else parts.astype(dtype)).reshape(shape)


class Memory(NamedTuple):
    """What a run holds, in bytes: weights that all contexts share, and of each context the values between steps, what
    single steps work with, and outputs. These three are None where dimensions have no bounds that say at which extents.
    With complete=False, loops, branches or extents that only running finds out take more.
    """

    weights: int
    values: Optional[int]
    working: Optional[int]
    outputs: Optional[int]
    complete: bool


class Engine:
    """A compiled network; immutable, shared by any number of threads."""

    def __init__(self, native):
        self._native = native
        self.inputs = [TensorInfo(i) for i in native.tensors(True)]
        self.outputs = [TensorInfo(o, self.inputs) for o in native.tensors(False)]
        self._own = None
        self._lock = threading.Lock()

    def context(self, threads=0, in_place=False):
        """A new Context. threads: 0 for what the engine was built or loaded with.

        in_place: outputs with `under` are written over that input, whose array the run changes and returns. A cache is
        then not copied (docs/caches.md).
        """
        return Context(self, threads, in_place)

    def run(self, inputs):
        """Runs on a dict of inputs by name (or a list in order); returns a dict of outputs by name."""
        named = isinstance(inputs, dict)
        values = self._context()._run(() if named else tuple(inputs), inputs if named else {})
        return {info.name: value for info, value in zip(self.outputs, values)}

    def __call__(self, *args, **kwargs):
        """Runs on inputs in order or by name; returns the output, or a tuple when there are several.

        Uses one context of the engine, so calls from several threads take turns; contexts of your own run at once.
        """
        values = self._context().run(*args, **kwargs)
        return values[0] if len(values) == 1 else tuple(values)

    def save(self, path):
        """Writes the engine file (beside the path, then renamed)."""
        self._native.save(os.fspath(path))

    def memory(self, largest=False):
        """What a run holds, as a Memory: at the best extents of the bounded dimensions, or at the largest ones."""
        *sizes, complete = self._native.memory(largest)
        return Memory(*(None if size < 0 else size for size in sizes), complete)

    def serialize(self):
        """The engine file as bytes."""
        return self._native.serialize()

    def _context(self):
        with self._lock:
            if self._own is None:
                self._own = Context(self)
            return self._own

    def __repr__(self):
        return f"<sinter.Engine {self.inputs} -> {self.outputs}>"


def _range(name, bounds):
    bounds = (bounds,) * 3 if isinstance(bounds, (int, np.integer)) else tuple(bounds)
    if len(bounds) != 3:
        raise ValueError(f"dims: {name!r} wants (min, best, max) or one number, not {bounds!r}")
    return (name, *map(int, bounds))


class _Bar:
    """A progress bar on standard error."""

    def __call__(self, stage, fraction):
        done = int(30 * fraction)
        end = "\n" if fraction >= 1 else ""
        print(f"\r[{'#' * done}{'.' * (30 - done)}] {stage:<24}", end=end, file=sys.stderr, flush=True)


def build(model, *, threads=0, level=None, dims=None, tf32=True, bf16=False, fp16=False, timing_cache=None,
          external_data_root=None, log=None, log_level="warning", progress=None):
    """Compiles a model and returns the Engine.

    model: path of an ONNX file, or its bytes. threads: to build for; 0 for all usable CPUs. level: instruction set
    ("portable", "avx2", "avx512", "avx512_bf16", "amx"), None for this machine's best. dims: bounds of named dimensions,
    {"N": (min, best, max)}, or {"N": n} to fix one. tf32, bf16, fp16: how contractions of float32 may round their
    operands; tf32=False is strict fp32 (docs/precision.md has the numbers). timing_cache: file to read and update.
    external_data_root: directory for external tensor data. log: called with (level, message). progress: True for a bar,
    or called with (stage, fraction in [0, 1]).

    Raises sinter.Error (node, tensor and hint say where and what to do); KeyboardInterrupt stops the build.
    """
    if progress is True:
        progress = _Bar() if sys.stderr.isatty() else None
    is_bytes = isinstance(model, (bytes, bytearray, memoryview))
    if log_level not in _LEVELS:
        raise ValueError(f"log_level {log_level!r} is none of {', '.join(_LEVELS)}")
    ranges = [_range(name, bounds) for name, bounds in (dims or {}).items()]
    sink = None if log is None else (lambda number, message: log(_LEVEL_NAMES[number], message))
    native = _sinter.build(
        None if is_bytes else os.fspath(model), bytes(model) if is_bytes else None, threads, level, ranges, tf32, bf16,
        fp16, None if timing_cache is None else os.fspath(timing_cache),
        None if external_data_root is None else os.fspath(external_data_root), sink, _LEVELS[log_level], progress or None)
    return Engine(native)


def load(engine, *, threads=0):
    """Loads an engine from a file (its weights stay mapped) or from bytes. Raises sinter.Error."""
    if isinstance(engine, (bytes, bytearray, memoryview)):
        return Engine(_sinter.load(None, bytes(engine), threads))
    return Engine(_sinter.load(os.fspath(engine), None, threads))


def load_plugins(path):
    """Loads a library of operators that sinter does not have (docs/plugins.md); builds and engines may use them from then on.

    Loading it again changes nothing. Code from the library runs at once. Raises sinter.Error.
    """
    _sinter.load_plugins(os.fspath(path))
