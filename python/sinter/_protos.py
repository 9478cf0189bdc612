"""Strings, sequences, maps and optionals as the protobuf messages that the native half takes and gives.

Only what crosses that border is written and read here: TensorProto, SequenceProto, MapProto and OptionalProto of ONNX,
with the values in raw_data or string_data.
"""

import operator

import numpy as np

# ONNX's number of an element type, its name in Sinter, NumPy's dtype (None: none of its own)
TYPES = [
    (1, "f32", "float32"), (2, "u8", "uint8"), (3, "i8", "int8"), (4, "u16", "uint16"), (5, "i16", "int16"),
    (6, "i32", "int32"), (7, "i64", "int64"), (9, "bool", "bool"), (10, "f16", "float16"), (11, "f64", "float64"),
    (12, "u32", "uint32"), (13, "u64", "uint64"), (14, "c64", "complex64"), (15, "c128", "complex128"),
]
STRING = 8
_number = {numpy: number for number, _, numpy in TYPES}
_numpy = {number: numpy for number, _, numpy in TYPES}
_WORDS = {16: "uint16"}   # bfloat16


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number, payload):
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def encode_tensor(value):
    array = np.asarray(value)
    out = b"".join(_varint(1 << 3) + _varint(d) for d in array.shape)
    if array.dtype.kind in "UOS":
        texts = [t if isinstance(t, bytes) else str(t).encode() for t in array.reshape(-1).tolist()]
        return out + _varint(2 << 3) + _varint(STRING) + b"".join(_field(6, t) for t in texts)
    number = _number.get(array.dtype.name)
    if number is None:
        raise TypeError(f"an array of {array.dtype} cannot be part of a sequence")
    return out + _varint(2 << 3) + _varint(number) + _field(9, np.ascontiguousarray(array).tobytes())


def encode_sequence(values):
    return _varint(2 << 3) + _varint(1) + b"".join(_field(3, encode_tensor(v)) for v in values)


def encode_map(entries, key, value):
    """A dict as a map with these types of Sinter's: "i64" or "string" keys, values of any that maps have."""
    if key == "string":
        if not all(isinstance(k, (str, bytes)) for k in entries):
            raise TypeError("the keys must be strings")
        keys = [_field(4, k if isinstance(k, bytes) else k.encode(errors="surrogateescape")) for k in entries]
        out = _varint(2 << 3) + _varint(STRING) + b"".join(keys)
    else:
        keys = [_varint(3 << 3) + _varint(operator.index(k)) for k in entries]
        out = _varint(2 << 3) + _varint(_number["int64"]) + b"".join(keys)
    values = list(entries.values())
    if value == "string":
        if not all(isinstance(v, (str, bytes)) for v in values):
            raise TypeError("the values must be strings")
    else:
        values = np.asarray(values, dtype=next(numpy for _, name, numpy in TYPES if name == value))
        if values.ndim != 1:
            raise TypeError("the values must be numbers")
    return out + _field(5, encode_sequence(values))


def encode_optional(value):
    if value is None:
        return b""
    if isinstance(value, (list, tuple)):
        return _varint(2 << 3) + _varint(3) + _field(5, encode_sequence(value))
    return _varint(2 << 3) + _varint(1) + _field(3, encode_tensor(value))


def _fields(data):
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            size = varint()
            yield key >> 3, data[at:at + size]
            at += size
        elif key & 7 == 5:
            yield key >> 3, data[at:at + 4]
            at += 4
        else:
            yield key >> 3, data[at:at + 8]
            at += 8


def decode_tensor(data):
    dims, number, raw, texts = [], 0, b"", []
    for field, value in _fields(data):
        if field == 1:
            if isinstance(value, int):
                dims.append(value)
            else:   # packed
                rest = bytes(value)
                while rest:
                    size = next(i for i, byte in enumerate(rest) if byte < 128) + 1
                    dims.append(sum((byte & 127) << 7 * i for i, byte in enumerate(rest[:size])))
                    rest = rest[size:]
        elif field == 2:
            number = value
        elif field == 6:
            texts.append(bytes(value).decode(errors="surrogateescape"))
        elif field == 9:
            raw = bytes(value)
    if number == STRING:
        out = np.empty(len(texts), dtype=object)
        out[:] = texts
        return out.reshape(dims)
    dtype = _numpy.get(number) or _WORDS.get(number, "uint8")
    return np.frombuffer(raw, dtype=dtype).reshape(dims if number in _numpy or number in _WORDS else -1).copy()


def decode_sequence(data):
    return [decode_tensor(value) for field, value in _fields(data) if field == 3]


def decode_optional(data):
    for field, value in _fields(data):
        if field == 3:
            return decode_tensor(value)
        if field == 5:
            return decode_sequence(value)
    return None
