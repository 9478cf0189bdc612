"""A problem of a build, as problems_bench describes it, as an ONNX model of the same work: what ONNX Runtime is timed
on.

What the build took apart is put together again, so that ONNX Runtime gets the operators that it is fast at: softmax,
layer normalization, (de)quantization; products of bytes with scales and rounding behind them as QLinearConv,
QLinearMatMul or QGemm; attention as one MultiHeadAttention with its mask as a bias. Halves are f32 in the model.
"""

import numpy as np
from onnx import helper, numpy_helper

OPSET = 21
MICROSOFT = "com.microsoft"
# ONNX Runtime has no fast kernels of halves.
TYPES = {"bool": np.bool_, "u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16, "u32": np.uint32,
         "i32": np.int32, "u64": np.uint64, "i64": np.int64, "f16": np.float32, "bf16": np.float32, "f32": np.float32,
         "f64": np.float64}


class Unsayable(Exception):
    """Why there is no such model."""


class Stage:
    """One operator: `op` with the problem's own attributes, values by number, None where left out."""

    def __init__(self, op, attributes, inputs, results):
        self.op, self.attributes, self.inputs, self.results = op, attributes, inputs, results

    def other(self, value):
        """The operand that is not `value`, of two."""
        return self.inputs[1] if self.inputs[0] == value else self.inputs[0]


class Problem:
    """Stages, types by value, and who makes and reads what."""

    def __init__(self, row):
        self.operands, self.results = row["operands"], row["results"]
        self.types = list(self.operands)
        self.stages = []
        for given in row["stages"]:
            results = list(range(len(self.types), len(self.types) + len(given["results"])))
            self.types += given["results"]
            self.stages.append(Stage(given["op"], given["attributes"], given["inputs"], results))
        if any(t is None or t["dtype"] not in TYPES for t in self.types):
            raise Unsayable("it has values of unknown extents or of types that numpy lacks")

    def dims(self, value):
        return self.types[value]["dims"]

    def count(self, value):
        return int(np.prod(self.dims(value), dtype=np.int64))

    def elements(self, value):
        """Known elements of an operand, or None."""
        return self.operands[value].get("elements") if value is not None and value < len(self.operands) else None

    def readers(self, value):
        return [s for s in self.stages if value in s.inputs]

    def next(self, stage, *ops):
        """The only reader of a stage's result, if it is one of these and nothing else needs the result."""
        value = stage.results[0]
        found = self.readers(value)
        return found[0] if len(found) == 1 and value not in self.results and found[0].op in ops else None

    def replace(self, gone, stage):
        """One stage in the place of the last of those."""
        at = self.stages.index(gone[-1])
        self.stages[at] = stage
        self.stages = [s for s in self.stages if s not in gone[:-1]]

    def inner(self, gone):
        """Whether nobody outside of these stages reads what they make, but for the last one's result."""
        made = {v for s in gone[:-1] for v in s.results}
        return not made & set(self.results) and not any(made & set(s.inputs) for s in self.stages if s not in gone)

    def axes(self, reduction):
        """The axes that a reduction is over, none negative; all where it has none."""
        rank = len(self.dims(reduction.inputs[0]))
        given = self.elements(reduction.inputs[1]) if len(reduction.inputs) > 1 else list(range(rank))
        return sorted(a % rank for a in given) if given else None


def softmax(p, largest):
    """ReduceMax, Sub, Exp, ReduceSum, Div."""
    axes = p.axes(largest)
    x = largest.inputs[0]
    apart = p.next(largest, "Sub")
    power = p.next(apart, "Exp") if apart and apart.inputs[0] == x else None
    if not power or not largest.attributes["keep_dims"] or not axes or len(axes) != 1:
        return None
    read = p.readers(power.results[0])
    total = next((s for s in read if s.op == "ReduceSum"), None)
    parts = next((s for s in read if s.op == "Div"), None)
    gone = [largest, apart, power, total, parts]
    if not total or not parts or p.axes(total) != axes or parts.inputs[1] != total.results[0] or not p.inner(gone):
        return None
    return gone, Stage("Softmax", {"axis": axes[0]}, [x], parts.results)


def layer_norm(p, mean):
    """ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Div, and behind it Mul and Add with constants of the last axis."""
    x = mean.inputs[0]
    axes = p.axes(mean)
    apart = p.next(mean, "Sub")
    if not apart or axes != [len(p.dims(x)) - 1] or not mean.attributes["keep_dims"]:
        return None
    square = next((s for s in p.readers(apart.results[0]) if s.op == "Mul" and s.inputs == apart.results * 2), None)
    variance = p.next(square, "ReduceMean") if square else None
    added = p.next(variance, "Add") if variance else None
    root = p.next(added, "Sqrt") if added else None
    divided = p.next(root, "Div") if root else None
    scaled = p.next(divided, "Mul") if divided else None
    shifted = p.next(scaled, "Add") if scaled else None
    gone = [mean, apart, square, variance, added, root, divided, scaled, shifted]
    last = [p.dims(x)[-1]]
    if not shifted or p.axes(variance) != axes or divided.inputs[0] != apart.results[0] or not p.inner(gone):
        return None
    scale, bias = scaled.other(divided.results[0]), shifted.other(scaled.results[0])
    if p.dims(scale) != last or p.dims(bias) != last:
        return None
    return gone, Stage("LayerNormalization", {}, [x, scale, bias], shifted.results)


def rounding(p, rounded):
    """Round, perhaps IsNaN and Where, perhaps Add of a zero point, Clip, Cast to bytes."""
    read = p.readers(rounded.results[0])
    nan = next((s for s in read if s.op == "IsNaN"), None)
    chosen = next((s for s in read if s.op == "Where"), None) if nan else None
    whole = chosen or rounded
    after = p.next(whole, "Add", "Clip")
    shifted = after if after and after.op == "Add" else None
    clip = p.next(shifted, "Clip") if shifted else after
    cast = p.next(clip, "Cast") if clip else None
    if not cast or cast.attributes["to"] not in ("u8", "i8"):
        return None
    if shifted and p.count(shifted.other(whole.results[0])) != 1:
        return None
    return [s for s in (rounded, nan, chosen, shifted, clip, cast) if s]


def quantize(p, divided):
    """Div and what `rounding` takes."""
    rounded = p.next(divided, "Round")
    behind = rounding(p, rounded) if rounded else None
    scale = divided.inputs[1]
    if not behind or p.count(scale) != 1 or not p.inner([divided, *behind]):
        return None
    cast = behind[-1]
    return [divided, *behind], Stage("Quantized", {"to": cast.attributes["to"]}, [divided.inputs[0], scale], cast.results)


def dequantize(p, cast):
    """Cast, perhaps Sub, Mul."""
    x = cast.inputs[0]
    if p.types[x]["dtype"] not in ("u8", "i8") or cast.attributes["to"] != "f32":
        return None
    after = p.next(cast, "Sub", "Mul")
    scaled = p.next(after, "Mul") if after and after.op == "Sub" else after
    if not scaled or scaled.op != "Mul":
        return None
    gone = [s for s in (cast, after if after.op == "Sub" else None, scaled) if s]
    scale = scaled.other(gone[-2].results[0])
    if p.count(scale) != 1 or not p.inner(gone):
        return None
    return gone, Stage("Dequantized", {"of": p.types[x]["dtype"]}, [x, scale], scaled.results)


def quantized_product(p, product):
    """MatMulInteger or ConvInteger, Cast, Mul and what `quantize` made or, where the factors hold its scale, `rounding`
    takes; perhaps an Add of a bias before or behind Cast and Mul, and a Relu or Clip, which the rounding of QLinear
    operators does as well."""
    gone, bias, scale, y_scale = [product], None, None, None
    while True:
        at = gone[-1].results[0]
        after = p.next(gone[-1], "Add", *(("Cast", "Mul") if scale is None else ("Quantized", "Relu", "Clip", "Round")))
        if not after or (after.op == "Add" and bias is not None):
            return None
        if after.op == "Round":
            behind = rounding(p, after)
            if not behind:
                return None
            gone += behind
            break
        gone.append(after)
        if after.op == "Add":
            bias = after.other(at)
        elif after.op == "Mul":
            scale = after.other(at)
        elif after.op == "Quantized":
            if after.inputs[0] != at:
                return None
            y_scale = after.inputs[1]
            break
    rounded = gone[-1]
    inputs = [*(product.inputs + [None] * 2)[:4], scale, y_scale, bias]
    if inputs[2] is not None and p.count(inputs[2]) != 1:
        return None
    if any(v is not None and v >= len(p.operands) for v in inputs) or not p.inner(gone):
        return None
    attributes = product.attributes | {"to": rounded.attributes["to"]}
    return gone, Stage("Quantized " + product.op, attributes, inputs, rounded.results)


FORMS = (("ReduceMax", softmax), ("ReduceMean", layer_norm), ("Div", quantize), ("Cast", dequantize),
         ("MatMulInteger", quantized_product), ("ConvInteger", quantized_product))


def put_together(p):
    for op, form in FORMS:
        for stage in [s for s in p.stages if s.op == op]:
            found = form(p, stage) if stage in p.stages else None
            if found:
                p.replace(*found)


class Writer:
    """Nodes of the model; values are named by their numbers."""

    def __init__(self, problem):
        self.p, self.nodes, self.weights, self.count = problem, [], [], 0
        self.rng = np.random.default_rng(1)

    def op(self, kind, *inputs, result=None, outputs=None, domain="", **attributes):
        if outputs is None:
            self.count += 1
            outputs = [result or f"t{self.count}"]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def constant(self, array):
        self.count += 1
        self.weights.append(numpy_helper.from_array(array, f"t{self.count}"))
        return f"t{self.count}"

    def number(self, value, like):
        return self.constant(np.array(value, TYPES[self.p.types[like]["dtype"]]))

    def drawn(self, operand):
        """Elements of an operand: those that it has, else random ones."""
        dtype, dims = TYPES[operand["dtype"]], operand["dims"]
        if "elements" in operand:
            return np.array(operand["elements"], dtype).reshape(dims)
        low, high = operand.get("range", (0, 0))
        if issubclass(dtype, np.floating):
            return self.rng.uniform(low, high, dims).astype(dtype)
        return self.rng.integers(int(low), int(high) + 1, dims).astype(dtype)

    def flat(self, value):
        """The name of an operand of one number, or of one for each column or channel, as ONNX wants these."""
        operand = self.p.operands[value]
        return self.constant(self.drawn(operand).reshape(() if self.p.count(value) == 1 else -1))


def name(value):
    return "" if value is None else f"v{value}"


def window(a):
    out = {k: a[k] for k in ("strides", "dilations", "group", "output_padding", "output_shape") if a.get(k)}
    out["auto_pad"] = {"explicit": "NOTSET"}.get(a["auto_pad"], a["auto_pad"].upper())
    if a["auto_pad"] == "explicit" and a["pads"]:
        out["pads"] = a["pads"]
    if "kernel" in a:
        out |= {"kernel_shape": a["kernel"], "ceil_mode": int(a["ceil_mode"])}
    return out


def average(a):
    return window(a) | {"count_include_pad": int(a["count_pads"])}


def renamed(**names):
    """Attributes by their names in ONNX."""
    def given(a):
        there = {to: a[of] for to, of in names.items() if a[of] not in ([], "")}
        return {to: int(x) if isinstance(x, bool) else x for to, x in there.items()}
    return given


def none(_):
    return {}


def recurrent(w, s):
    a = s.attributes
    if a["activations"] or a["clip"] or a["input_forget"]:
        raise Unsayable("a recurrent network with activations or options of its own")
    extra = {"linear_before_reset": int(a["linear_before_reset"])} if s.op == "GRU" else {}
    w.op(s.op, *map(name, s.inputs), outputs=[name(v) for v in s.results], direction=a["direction"],
         hidden_size=w.p.dims(s.inputs[2])[-1], **extra)


def matmul(w, s):
    a, b = map(name, s.inputs)
    if s.attributes["transpose_b"]:
        rank = len(w.p.dims(s.inputs[1]))
        b = w.op("Transpose", b, perm=[*range(rank - 2), rank - 1, rank - 2])
    w.op("MatMul", a, b, result=name(s.results[0]))


def integer_product(w, s):
    """Zero points are operands: ONNX has them as numbers or as lists."""
    zeros = []
    for value in s.inputs[2:]:
        if value is not None and len(w.p.dims(value)) > 1:
            shape = np.array([-1] if w.p.count(value) > 1 else [], np.int64)
            zeros.append(w.op("Reshape", name(value), w.constant(shape)))
        else:
            zeros.append(name(value))
    w.op(s.op, name(s.inputs[0]), name(s.inputs[1]), *zeros, result=name(s.results[0]),
         **(window(s.attributes) if s.op == "ConvInteger" else {}))


def qlinear(w, s):
    """With operands' scales in those of the weights, and zero points of results 0: as dear as any other."""
    x, weights, x_zero, w_zero, scale, y_scale, bias = s.inputs
    one, y_zero = w.constant(np.array(1, np.float32)), w.constant(np.array(0, TYPES[s.attributes["to"]]))
    sums = [] if bias is None else [w.constant(np.ones(w.p.count(bias), np.int32))]
    zeros = [np.zeros((), TYPES[w.p.types[v]["dtype"]]) if zero is None else w.drawn(w.p.operands[zero])
             for v, zero in ((x, x_zero), (weights, w_zero))]
    # Scales and zero points of weights have the same shape.
    each = max(w.p.count(scale), zeros[1].size)
    shape = () if each == 1 else (each,)
    spread = lambda array: w.constant(np.broadcast_to(array.reshape(() if array.size == 1 else -1), shape))
    quantized = [name(x), one, w.constant(zeros[0].reshape(())), name(weights), spread(w.drawn(w.p.operands[scale])),
                 spread(zeros[1])]
    result = name(s.results[0])
    step = one if y_scale is None else w.flat(y_scale)
    if s.op == "Quantized ConvInteger":
        w.op("QLinearConv", *quantized, step, y_zero, *sums, result=result, **window(s.attributes))
    elif bias is None:
        w.op("QLinearMatMul", *quantized, step, y_zero, result=result)
    elif len(w.p.dims(x)) == 2:
        w.op("QGemm", *quantized, *sums, step, y_zero, result=result, domain=MICROSOFT)
    else:
        raise Unsayable("a product of more than one matrix with a bias has no QLinear operator")


def spelled_quantized(w, s):
    """With a zero point of 0 as well."""
    to = s.attributes.get("to") or s.attributes["of"]
    scale = w.op("Reshape", name(s.inputs[1]), w.constant(np.array([], np.int64)))
    w.op("QuantizeLinear" if s.op == "Quantized" else "DequantizeLinear", name(s.inputs[0]), scale,
         w.constant(np.array(0, TYPES[to])), result=name(s.results[0]))


def swish(w, s):
    x, alpha = s.inputs[0], s.attributes["alpha"]
    scaled = name(x) if alpha == 1 else w.op("Mul", name(x), w.number(alpha, x))
    w.op("Mul", name(x), w.op("Sigmoid", scaled), result=name(s.results[0]))


def relu(w, s):
    x, result = s.inputs[0], name(s.results[0])
    if w.p.types[x]["dtype"] in ("f16", "bf16", "f32", "f64"):
        w.op("Relu", name(x), result=result)
    else:  # ONNX Runtime has none of most integers
        w.op("Max", name(x), w.number(0, x), result=result)


def clip(w, s):
    bounds = [w.number(b, s.inputs[0]) if np.isfinite(b) else "" for b in (s.attributes["low"], s.attributes["high"])]
    w.op("Clip", name(s.inputs[0]), *bounds, result=name(s.results[0]))


def cast(w, s):
    to = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[s.attributes["to"]]))
    w.op("Cast", name(s.inputs[0]), result=name(s.results[0]), to=to)


def resize(w, s):
    a = s.attributes
    if a["nearest"] == "shrink_ceil" or a["aspect"] != "stretch" or a["coordinates"] == "tf_crop_and_resize":
        raise Unsayable("a resampling that ONNX no longer has")
    coordinates = {"tf_half_pixel": "tf_half_pixel_for_nn"}.get(a["coordinates"], a["coordinates"])
    axes = {"axes": a["axes"]} if a["axes"] else {}
    w.op("Resize", *map(name, s.inputs), result=name(s.results[0]), mode=a["mode"], nearest_mode=a["nearest"],
         coordinate_transformation_mode=coordinates, cubic_coeff_a=a["cubic_a"], antialias=int(a["antialias"]),
         exclude_outside=int(a["exclude_outside"]), extrapolation_value=a["extrapolation"], **axes)


# Operators of ONNX's name, by their attributes there.
SAME = dict.fromkeys(
    "Add Sub Mul Div Pow Min Max Neg Abs Sign Floor Ceil Round Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh "
    "Cosh Tanh Asinh Acosh Atanh Erf Sigmoid IsNaN Not Equal Less LessOrEqual And Or Xor Where PRelu Mish Softsign Softplus "
    "Expand Tile Identity Gelu".split(), none)
REDUCTION = renamed(keepdims="keep_dims", noop_with_empty_axes="keep_without_axes")
SAME |= dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"), REDUCTION)
SAME |= dict.fromkeys(("Conv", "ConvTranspose", "MaxPool"), window)
SAME |= dict.fromkeys(("LeakyRelu", "Elu", "ThresholdedRelu"), renamed(alpha="alpha"))
SAME |= dict.fromkeys(("Concat", "Split", "Gather", "GatherElements", "Softmax"), renamed(axis="axis"))
SAME |= dict.fromkeys(("ArgMax", "ArgMin"), renamed(axis="axis", keepdims="keep_dims", select_last_index="select_last"))
SAME |= {
    "AveragePool": average, "Selu": renamed(alpha="alpha", gamma="gamma"), "Mod": renamed(fmod="fmod"),
    "HardSigmoid": renamed(alpha="alpha", beta="beta"), "Transpose": renamed(perm="perm"), "Slice": none,
    "Reshape": renamed(allowzero="allow_zero"), "Pad": renamed(mode="mode"), "Trilu": renamed(upper="upper"),
    "LRN": renamed(alpha="alpha", beta="beta", bias="bias", size="size"), "GatherND": renamed(batch_dims="batch_dims"),
    "CumSum": renamed(exclusive="exclusive", reverse="reverse"), "LayerNormalization": none,
    "TopK": renamed(axis="axis", largest="largest", sorted="sorted"),
    "ReverseSequence": renamed(batch_axis="batch_axis", time_axis="time_axis"),
}
WRITTEN = {
    "MatMul": matmul, "MatMulInteger": integer_product, "ConvInteger": integer_product, "Swish": swish, "Clip": clip,
    "Relu": relu, "Cast": cast, "Resize": resize, "LSTM": recurrent, "GRU": recurrent, "RNN": recurrent,
    "Quantized": spelled_quantized, "Dequantized": spelled_quantized, "Quantized MatMulInteger": qlinear,
    "Quantized ConvInteger": qlinear,
    "GeluTanh": lambda w, s: w.op("Gelu", name(s.inputs[0]), result=name(s.results[0]), approximate="tanh"),
}


def write(w, s):
    if s.op in WRITTEN:
        WRITTEN[s.op](w, s)
    elif s.op in SAME:
        w.op(s.op, *map(name, s.inputs), outputs=[name(v) for v in s.results], **SAME[s.op](s.attributes))
    else:
        raise Unsayable(f"{s.op} has no form in ONNX here")


def finished(w, inputs, results):
    """The model of what was written; inputs: {name: array}."""
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
             for n, x in inputs.items()]
    graph = helper.make_graph(w.nodes, "problem", infos, [helper.make_empty_tensor_value_info(r) for r in results],
                              w.weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def attention(p):
    """A model of one MultiHeadAttention where the problem is two products with a softmax between, else None. Queries,
    keys and values are operands of their own, [batch, rows, heads * width], and what a mask does is a bias of the
    scores."""
    products = [s for s in p.stages if s.op == "MatMul"]
    if len(products) != 2:
        return None
    first, second = products
    stage, masks, causal = first, [], False
    while stage.op != "Softmax":
        value = stage.results[0]
        read = p.readers(value)
        if len(read) != 1 or read[0].op not in ("Mul", "Div", "Add", "Where", "Softmax", "Reshape"):
            return None
        stage = read[0]
        if stage.op == "Where":
            band = next((s for s in p.stages if stage.inputs[0] in s.results and s.op == "Band"), None)
            causal = causal or band is not None
            masks += [] if band else [stage.inputs[0]]
        elif stage.op == "Add":
            masks.append(stage.other(value))
    if stage.results[0] != second.inputs[0]:
        return None
    *lead, rows, keys = p.dims(first.results[0])
    if len(lead) > 2 or p.dims(first.inputs[1])[:-2] != lead or p.dims(second.inputs[1])[:-2] != lead:
        return None  # heads that share keys
    batch, heads = ([1, 1] + lead)[-2:]
    width, out_width = p.dims(first.inputs[0])[-1], p.dims(second.results[0])[-1]
    w = Writer(p)
    draw = lambda *dims: w.rng.uniform(-1, 1, dims).astype(np.float32)
    feeds = {"q": draw(batch, rows, heads * width), "k": draw(batch, keys, heads * width),
             "v": draw(batch, keys, heads * out_width)}
    if masks:
        apart = [([1] * 4 + p.dims(m))[-4:] for m in masks]
        feeds["bias"] = draw(*(max(d[axis] for d in apart) for axis in (0, 1)), rows, keys)
    w.op("MultiHeadAttention", "q", "k", "v", *(["", "", "bias"] if masks else []), result="y", domain=MICROSOFT,
         num_heads=heads, unidirectional=int(causal))
    return finished(w, feeds, ["y"]), feeds


def model(row):
    """The model's bytes and its inputs by name; Unsayable where there is none."""
    p = Problem(row)
    put_together(p)
    if all(s.op == "Identity" for s in p.stages):
        raise Unsayable("a change of layout is no operator")
    whole = attention(p)
    if whole:
        return whole
    w = Writer(p)
    for stage in p.stages:
        write(w, stage)
    used = {i for node in w.nodes for i in node.input}
    feeds = {}
    for value, operand in enumerate(p.operands):
        if name(value) not in used:
            continue
        array = w.drawn(operand)
        if operand["constant"]:
            w.weights.append(numpy_helper.from_array(array, name(value)))
        else:
            feeds[name(value)] = array
    return finished(w, feeds, [name(r) for r in p.results]), feeds
