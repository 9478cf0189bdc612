"""Quantized operators."""

import numpy as np
from harness import Case


def f(v):
    return np.array(v, np.float32)


def z(v, dtype=np.uint8):
    return np.array(v, dtype)


def cases():
    r = np.random.default_rng(1)

    def u8(*shape):
        return r.integers(0, 256, shape, dtype=np.uint8)

    def i8(*shape):
        return r.integers(-128, 128, shape, dtype=np.int8)

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    all_cases = []

    def case(name, op, inputs, attributes=None, **more):
        all_cases.append(Case(name, op, inputs, attributes, **more))

    for dtype, data in (("u8", u8), ("i8", i8)):
        zero = np.array(3, data(1).dtype)
        other = np.array(7, data(1).dtype)
        for op in ("QLinearAdd", "QLinearMul"):
            case(f"{op} {dtype}", op, [data(2, 3, 8), f(0.02), zero, data(2, 3, 8), f(0.03), other, f(0.05), zero])
            case(f"{op} {dtype} broadcast", op, [data(2, 3, 8), f(0.02), zero, data(1, 3, 1), f(0.03), other, f(0.05),
                                                 zero], constants=(1, 2, 3, 4, 5, 6, 7))
        case(f"QLinearSigmoid {dtype}", "QLinearSigmoid", [data(4, 40), f(0.04), zero, f(1 / 256), z(0, zero.dtype)],
             constants=(1, 2, 3, 4))
        case(f"QLinearLeakyRelu {dtype}", "QLinearLeakyRelu", [data(4, 40), f(0.04), zero, f(0.03), other],
             {"alpha": 0.1}, constants=(1, 2, 3, 4))
        for last in (0, 1):
            shape = (1, 7, 6, 4) if last else (1, 4, 7, 6)
            case(f"QLinearAveragePool {dtype} last={last}", "QLinearAveragePool",
                 [data(*shape), f(0.04), zero, f(0.03), other],
                 {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1], "channels_last": last},
                 constants=(1, 2, 3, 4))
            case(f"QLinearGlobalAveragePool {dtype} last={last}", "QLinearGlobalAveragePool",
                 [data(*shape), f(0.04), zero, f(0.02), other], {"channels_last": last}, constants=(1, 2, 3, 4))
        case(f"QLinearConcat {dtype}", "QLinearConcat",
             [f(0.05), zero, data(2, 3), f(0.04), other, data(2, 5), f(0.06), zero], {"axis": 1},
             constants=(0, 1, 3, 4, 6, 7))
        case(f"QLinearSoftmax {dtype}", "QLinearSoftmax", [data(2, 3, 9), f(0.04), zero, f(1 / 256), z(0, zero.dtype)],
             {"axis": -1, "opset": 13}, constants=(1, 2, 3, 4))
        case(f"QLinearSoftmax {dtype} opset 11", "QLinearSoftmax",
             [data(2, 3, 9), f(0.04), zero, f(1 / 256), z(0, zero.dtype)], {"axis": 1, "opset": 11},
             constants=(1, 2, 3, 4))
        case(f"QLinearWhere {dtype}", "QLinearWhere",
             [r.integers(0, 2, (3, 4)).astype(bool), data(3, 4), f(0.03), zero, data(3, 1), f(0.05), other, f(0.06),
              zero], constants=(2, 3, 5, 6, 7, 8))
    case("QLinearReduceMean", "QLinearReduceMean", [u8(3, 4, 5), f(0.04), z(3), f(0.03), z(5)], {"axes": [1, 2]},
         constants=(1, 2, 3, 4), formula=reduce_mean)
    for name, transposed in (("", 0), (" transB", 1)):
        b = i8(6, 5) if not transposed else i8(5, 6)
        case(f"QGemm real{name}", "QGemm", [u8(4, 6), f(0.02), z(100), b, f(0.03), z(5, np.int8)],
             {"transB": transposed, "alpha": 0.5}, constants=(1, 2, 3, 4, 5))
        case(f"QGemm u8{name}", "QGemm",
             [u8(4, 6), f(0.02), z(100), b, f(0.03), z(5, np.int8), r.integers(-99, 99, (5,), dtype=np.int32), f(0.2),
              z(120)], {"transB": transposed}, constants=(1, 2, 3, 4, 5, 6, 7, 8))
    scales = f([0.01, 0.02, 0.03, 0.04, 0.05])
    case("QGemm columns", "QGemm",
         [u8(4, 6), f(0.02), z(100), i8(6, 5), scales, np.zeros(5, np.int8), None, f(0.2), z(120)],
         constants=(1, 2, 3, 4, 5, 7, 8))
    for last in (0, 1):
        case(f"QLinearConv last={last}", "QLinearConv",
             [u8(*((1, 6, 5, 4) if last else (1, 4, 6, 5))), f(0.02), z(100), i8(3, 4, 3, 3), f([0.01, 0.02, 0.03]),
              np.zeros(3, np.int8), f(0.5), z(120), r.integers(-99, 99, (3,), dtype=np.int32)],
             {"channels_last": last, "pads": [1, 1, 1, 1], "strides": [2, 1]}, constants=(1, 2, 3, 4, 5, 6, 7, 8))
    # Rounding of the zero point differs by half a step between kernels of ONNX Runtime.
    for dtype, data in (("u8", u8), ("i8", i8)):
        b = data(8, 5)
        case(f"DynamicQuantizeMatMul {dtype}", "DynamicQuantizeMatMul",
             [real(3, 4, 8), b, f([0.02]), z([4], b.dtype), real(5)], constants=(1, 2, 3, 4), tolerance=5e-3)
        case(f"DynamicQuantizeMatMul {dtype} columns", "DynamicQuantizeMatMul",
             [real(4, 8), b, scales, r.integers(0, 9, 5).astype(b.dtype), None], constants=(1, 2, 3), tolerance=5e-3)
        case(f"MatMulIntegerToFloat {dtype}", "MatMulIntegerToFloat",
             [u8(2, 4, 8), b, f(0.03), scales, z(99), r.integers(0, 9, 5).astype(b.dtype), real(5)],
             constants=(1, 2, 3, 4, 5, 6))
        case(f"MatMulIntegerToFloat {dtype} plain", "MatMulIntegerToFloat", [u8(4, 8), b, f(0.03), f(0.02)],
             constants=(2, 3))
    case("MatMulInteger16", "MatMulInteger16",
         [r.integers(-999, 999, (3, 4)).astype(np.int16), r.integers(-999, 999, (4, 5)).astype(np.int16)],
         formula=lambda a, b: a.astype(np.int32) @ b.astype(np.int32))
    case("MulInteger", "MulInteger", [u8(3, 4), z(5), u8(1, 4), z(7)],
         formula=lambda a, p, b, q: (a.astype(np.int32) - 5) * (b.astype(np.int32) - 7))
    case("ReduceSumInteger", "ReduceSumInteger", [i8(3, 4, 5)], {"axes": [1], "keepdims": 0},
         formula=lambda a: a.sum(1, dtype=np.int32))
    for directions in (1, 2):
        d, h, i = directions, 6, 5
        for columns in (False, True):
            shape = (d, 4 * h) if columns else (d,)
            w_scale, r_scale = (f(r.uniform(0.004, 0.01, shape)) for _ in range(2))
            zeros = np.zeros(shape, np.int8)
            case(f"DynamicQuantizeLSTM {d} directions columns={columns}", "DynamicQuantizeLSTM",
                 [real(7, 2, i), i8(d, i, 4 * h), i8(d, h, 4 * h), real(d, 8 * h), None, real(d, 2, h), real(d, 2, h),
                  None, w_scale, zeros, r_scale, zeros],
                 {"hidden_size": h, "direction": "bidirectional" if d == 2 else "forward"}, outputs=3,
                 constants=(1, 2, 3, 8, 9, 10, 11), tolerance=1e-2)
    for bits in (2, 4, 8):
        for k, block in ((64, 32), (48, 32), (32, 16)):
            blocks = -(-k // block)
            n = 6
            b = u8(n, blocks, block * bits // 8)
            scale = f(r.uniform(0.01, 0.1, (n, blocks)))
            packed = u8(n, (blocks * bits + 7) // 8)
            attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
            label = f"MatMulNBits {bits} bits K={k} block={block}"
            case(label, "MatMulNBits", [real(2, 3, k), b, scale], attributes, constants=(1, 2),
                 dynamic={0: (0, 1)})
            case(label + " zero points", "MatMulNBits", [real(3, k), b, scale, packed], attributes,
                 constants=(1, 2, 3))
            case(label + " flat", "MatMulNBits", [real(3, k), b, scale.reshape(-1), packed.reshape(-1)], attributes,
                 constants=(1, 2, 3), formula=lambda a, b, s, p, at=attributes: n_bits(a, b, s, p, at))
            if bits != 2:
                zero = f(r.uniform(0, 2**bits, (n, blocks)))
                # ONNX Runtime has no kernel for 8 bits.
                case(label + " real zero points", "MatMulNBits", [real(3, k), b, scale, zero], attributes,
                     constants=(1, 2, 3), formula=None if bits == 4 else
                     lambda a, b, s, p, at=attributes: n_bits(a, b, s, p, at))
            case(label + " bias, all operands", "MatMulNBits", [real(3, k), b, scale, packed, None, real(n)],
                 attributes, formula=lambda a, b, s, p, g, v, at=attributes: n_bits(a, b, s, p, at) + v)
    for kind in (0, 1):
        n, k, block = 6, 32, 16
        case(f"MatMulBnb4 {('fp4', 'nf4')[kind]}", "MatMulBnb4",
             [real(3, k), u8(n * k // 2), f(r.uniform(0.5, 2, n * k // block))],
             {"K": k, "N": n, "block_size": block, "quant_type": kind}, constants=(1, 2))
    for bits in (4, 8):
        data = u8(7, 32 * bits // 8)
        for zero in (None, u8(7, 2 * bits // 8)):
            case(f"GatherBlockQuantized u8 {bits} bits zero={zero is not None}", "GatherBlockQuantized",
                 [data, np.array([[1, 6, 0], [2, 2, 5]]), f(r.uniform(0.01, 0.1, (7, 2))), zero],
                 {"bits": bits, "block_size": 16, "gather_axis": 0, "quantize_axis": 1}, constants=(0, 2, 3))
    return all_cases


def reduce_mean(x, scale, zero, to_scale, to_zero):
    mean = ((x.astype(np.float32) - 3) * scale).mean((1, 2), keepdims=True)
    return np.clip(np.rint(mean / to_scale) + 5, 0, 255).astype(np.uint8)


def bits_of(packed, bits):
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(*packed.shape[:-1], -1)


def n_bits(a, b, scale, zero, attributes):
    n, k, bits = attributes["N"], attributes["K"], attributes["bits"]
    blocks = b.shape[1]
    w = bits_of(b, bits).astype(np.float32)
    zeros = zero if zero.dtype == np.float32 else bits_of(zero.reshape(n, -1), bits)[:, :blocks].astype(np.float32)
    w = (w - zeros[:, :, None]) * scale.reshape(n, blocks, 1)
    return a @ w.reshape(n, -1)[:, :k].T
