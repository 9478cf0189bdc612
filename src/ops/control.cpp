// If, Loop and Fragment: operators with bodies. Their bodies are run by whoever evaluates them.

#include "ops/control.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.h"
#include "ops/families.h"

namespace sinter {

const Fields& fields_of(const LoopAttrs*) {
  static const Fields f = describe<LoopAttrs>(
      {field<&LoopAttrs::carried>("carried"), field<&LoopAttrs::counted>("counted"),
       field<&LoopAttrs::scan_axes>("scan_axes"), field<&LoopAttrs::scan_reversed>("scan_reversed"),
       field<&LoopAttrs::stack_axes>("stack_axes"), field<&LoopAttrs::stack_reversed>("stack_reversed")});
  return f;
}

Type join(const Type& a, const Type& b, const std::function<Dim(size_t axis)>& open) {
  if (a.kind != b.kind) throw Error(Code::model_invalid, "one value is a tensor, the other a sequence or optional");
  if (a.kind == Type::Kind::invalid) return a;
  if (!a.is_tensor()) {
    if (!a.element || !b.element) return a.element ? a : b;
    // Extents of elements may differ from one to the next, so an open one leaves the shape unknown.
    bool differ = false;
    Type element = join(*a.element, *b.element, [&](size_t) {
      differ = true;
      return Dim();
    });
    if (differ) element.shape.reset();
    Type out = a;
    out.element = std::make_shared<const Type>(std::move(element));
    return out;
  }
  if (a.dtype != b.dtype)
    throw Error(Code::model_invalid, fmt::format("dtypes {} and {} differ", dtype_name(a.dtype), dtype_name(b.dtype)));
  if (!a.shape || !b.shape || a.shape->size() != b.shape->size()) return Type::tensor(a.dtype, std::nullopt);
  Shape shape = *a.shape;
  for (size_t k = 0; k < shape.size(); ++k)
    if (!(shape[k] == (*b.shape)[k])) shape[k] = open(k);
  return Type::tensor(a.dtype, std::move(shape));
}

namespace {

template <typename F>
void each_element_of_slice(const Tensor& x, int64_t axis, int64_t index, F move) {
  const auto a = static_cast<size_t>(axis);
  int64_t outer = 1, inner = 1;
  for (size_t k = 0; k < x.rank(); ++k) (k < a ? outer : inner) *= k == a ? 1 : x.dims()[k];
  for (int64_t o = 0; o < outer; ++o) move((o * x.dims()[a] + index) * inner, o * inner, inner);
}

void move_elements(const Tensor& from, int64_t from_at, Tensor& to, int64_t to_at, int64_t count) {
  if (from.dtype() == DType::string) {
    std::copy_n(from.strings().begin() + from_at, count, to.strings().begin() + to_at);
  } else if (is_sub_byte(from.dtype())) {
    for (int64_t i = 0; i < count; ++i) {
      if (is_float(from.dtype()))
        to.set_real(to_at + i, from.get_real(from_at + i));
      else
        to.set_integer(to_at + i, from.get_integer(from_at + i));
    }
  } else if (count > 0) {
    const auto width = static_cast<size_t>(bit_size(from.dtype()) / 8);
    std::copy_n(from.as<std::byte>() + static_cast<size_t>(from_at) * width, static_cast<size_t>(count) * width,
                to.as_mutable<std::byte>() + static_cast<size_t>(to_at) * width);
  }
}

// Symbols that mean something outside of a body: extents of inputs, and whatever operands mention.
bool known_outside(const InferContext& c, const Dim& d) {
  std::vector<SymbolId> ids, outer;
  d.collect_symbols(ids);
  for (size_t i = 0; i < c.inputs(); ++i)
    if (c.has(i)) collect_symbols(c.type(i), outer);
  std::sort(outer.begin(), outer.end());
  return std::all_of(ids.begin(), ids.end(), [&](SymbolId id) {
    return c.host.symbols()[id].bound == Symbol::Bound::input || std::binary_search(outer.begin(), outer.end(), id);
  });
}

// The type of a body's result as it is seen outside.
Type outside(InferContext& c, size_t output, Type type) {
  if (!type.has_shape()) return type;
  for (size_t k = 0; k < type.shape->size(); ++k) {
    Dim& d = (*type.shape)[k];
    if (!known_outside(c, d)) d = c.host.symbol(output, k, Symbol::Bound::exit, 0, std::nullopt);
  }
  return type;
}

std::vector<Type> operand_types(const InferContext& c, size_t first) {
  std::vector<Type> types;
  for (size_t i = first; i < c.inputs(); ++i) types.push_back(c.type(i));
  return types;
}

void infer_if(InferContext& c) {
  if (c.host.bodies() != 2) c.fail("it needs two bodies");
  if (c.dtype(0) != DType::boolean) c.fail(fmt::format("the condition is {}, it must be bool", dtype_name(c.dtype(0))));
  const std::vector<Type> parameters = operand_types(c, 1);
  const std::vector<Type> yes = c.host.infer_body(0, parameters), no = c.host.infer_body(1, parameters);
  if (yes.size() != c.outputs() || no.size() != c.outputs())
    c.fail(fmt::format("its bodies have {} and {} results, the node has {}", yes.size(), no.size(), c.outputs()));
  for (size_t o = 0; o < c.outputs(); ++o) {
    const auto open = [&](size_t k) { return c.host.symbol(o, k, Symbol::Bound::exit, 0, std::nullopt); };
    try {
      c.set(o, join(outside(c, o, yes[o]), outside(c, o, no[o]), open));
    } catch (const Error& error) {
      c.fail(fmt::format("result {} of its bodies: {}", o, error.message()));
    }
  }
}

void eval_if(EvalContext& c) {
  const Tensor& condition = c.in(0);
  if (condition.count() < 1) c.fail("the condition is empty");
  std::vector<Box> parameters;
  for (size_t i = 1; i < c.inputs(); ++i) parameters.push_back(c.box(i));
  std::vector<Box> results = c.bodies().run(condition.get_integer(0) != 0 ? 0 : 1, std::move(parameters));
  for (size_t o = 0; o < c.outputs.size() && o < results.size(); ++o) c.outputs[o] = std::move(results[o]);
}

// A value of type `from` may be passed where `to` is declared: there, extents of the body's own may be anything. Those
// of a body around it are what they are.
bool fits(const InferContext& c, const Type& from, const Type& to) {
  if (from.kind != to.kind) return false;
  if (!from.is_tensor()) return !from.element || !to.element || fits(c, *from.element, *to.element);
  if (from.dtype != to.dtype) return false;
  if (!to.shape) return true;
  if (!from.shape || from.shape->size() != to.shape->size()) return false;
  for (size_t k = 0; k < to.shape->size(); ++k) {
    const auto id = (*to.shape)[k].as_symbol();
    const bool open =
        id && c.host.symbols()[*id].bound == Symbol::Bound::body_parameter && !known_outside(c, Dim::symbol(*id));
    if (!open && !((*from.shape)[k] == (*to.shape)[k])) return false;
  }
  return true;
}

struct LoopForm {
  size_t carried, scanned, stacked;
  size_t first_scanned() const { return 2 + carried; }
};

LoopForm loop_form(const InferContext& c) {
  const LoopAttrs& a = c.attrs<LoopAttrs>();
  const auto most = static_cast<int64_t>(c.inputs());
  if (a.carried < 0 || a.carried > most) c.fail(fmt::format("{} carried values", a.carried));
  const LoopForm form{static_cast<size_t>(a.carried), a.scan_axes.size(), a.stack_axes.size()};
  if (2 + form.carried + form.scanned > c.inputs()) c.fail("it has fewer operands than its attributes say");
  if (c.outputs() != form.carried + form.stacked) c.fail("it has not as many results as its attributes say");
  if (!a.scan_reversed.empty() && a.scan_reversed.size() != form.scanned) c.fail("scan_reversed has the wrong length");
  if (!a.stack_reversed.empty() && a.stack_reversed.size() != form.stacked)
    c.fail("stack_reversed has the wrong length");
  if (form.scanned > 0 && !c.has(0)) c.fail("scanned operands need a trip count");
  return form;
}

void infer_loop(InferContext& c) {
  if (c.host.bodies() != 1) c.fail("it needs one body");
  const LoopAttrs& a = c.attrs<LoopAttrs>();
  const LoopForm form = loop_form(c);
  if (c.has(0) && c.dtype(0) != DType::i64) c.fail("the trip count must be i64");
  if (c.has(1) && c.dtype(1) != DType::boolean) c.fail("the condition must be bool");
  const std::vector<Type> declared = c.host.body_parameters(0);
  if (declared.size() != c.inputs())
    c.fail(fmt::format("its body takes {} values, the node passes {}", declared.size(), c.inputs()));
  std::optional<Dim> trips;
  if (const auto known = c.integers(0); known && known->size() == 1) trips = max((*known)[0], 0);
  for (size_t s = 0; s < form.scanned; ++s) {
    const Shape& x = c.shape(form.first_scanned() + s);
    const auto axis = static_cast<size_t>(c.axis(a.scan_axes[s], x.size()));
    if (trips) c.require_equal(x[axis], *trips, "extent of a scanned operand");
  }
  for (size_t i = 2; i < 2 + form.carried; ++i)
    if (!fits(c, c.type(i), declared[i]))
      c.fail(fmt::format("carried value {} is {}, its body takes {}", i - 2, to_text(c.type(i), c.host.symbols()),
                         to_text(declared[i], c.host.symbols())));
  std::vector<Type> parameters = declared;
  for (size_t i = form.first_scanned() + form.scanned; i < c.inputs(); ++i) parameters[i] = c.type(i);
  const std::vector<Type> results = c.host.infer_body(0, parameters);
  if (results.size() != 1 + form.carried + form.stacked) c.fail("its body has the wrong number of results");
  if (!results[0].is_tensor() || results[0].dtype != DType::boolean) c.fail("its body's condition must be bool");
  for (size_t j = 0; j < form.carried; ++j) {
    if (!fits(c, results[1 + j], declared[2 + j]))
      c.fail(fmt::format("its body turns carried value {} from {} into {}", j,
                         to_text(declared[2 + j], c.host.symbols()), to_text(results[1 + j], c.host.symbols())));
    c.set(j, outside(c, j, declared[2 + j]));
  }
  std::optional<Dim> extent;
  if (a.counted) extent = trips;
  for (size_t k = 0; k < form.stacked; ++k) {
    const size_t o = form.carried + k;
    const Type& slice = results[1 + o];
    if (!slice.is_tensor()) c.fail(fmt::format("stacked result {} is no tensor", k));
    if (!slice.shape) {
      c.set(o, slice);
      continue;
    }
    const auto axis = static_cast<size_t>(c.axis(a.stack_axes[k], slice.shape->size() + 1));
    if (!extent) extent = c.host.symbol(o, axis, Symbol::Bound::trip_count, 0, trips);
    // Axis numbers of the slice's own open extents are those of the stacked result.
    Shape shape = *slice.shape;
    shape.insert(shape.begin() + static_cast<int64_t>(axis), *extent);
    for (size_t n = 0; n < shape.size(); ++n)
      if (n != axis && !known_outside(c, shape[n]))
        shape[n] = c.host.symbol(o, n, Symbol::Bound::exit, 0, std::nullopt);
    c.set(o, slice.dtype, std::move(shape));
  }
}

void eval_loop(EvalContext& c) {
  const LoopAttrs& a = c.attrs<LoopAttrs>();
  const auto carried = static_cast<size_t>(a.carried);
  const size_t scanned = a.scan_axes.size(), stacked = a.stack_axes.size(), captures = 2 + carried + scanned;
  const auto scalar = [&](size_t i, int64_t otherwise) {
    if (!c.has(i)) return otherwise;
    if (c.in(i).count() < 1) c.fail("the trip count or condition is empty");
    return c.in(i).get_integer(0);
  };
  const int64_t trips = scalar(0, INT64_MAX);
  bool condition = scalar(1, 1) != 0;
  std::vector<Box> state;
  for (size_t j = 0; j < carried; ++j) state.push_back(c.box(2 + j));
  const auto axis_of = [&](int64_t axis, size_t rank) {
    if (axis < 0) axis += static_cast<int64_t>(rank);
    if (axis < 0 || axis >= static_cast<int64_t>(rank)) c.fail(fmt::format("there is no axis {}", axis));
    return axis;
  };
  const auto reversed = [](const std::vector<int64_t>& flags, size_t k) { return k < flags.size() && flags[k] != 0; };
  for (size_t s = 0; s < scanned; ++s) {
    const Tensor& x = c.in(2 + carried + s);
    if (x.dims()[static_cast<size_t>(axis_of(a.scan_axes[s], x.rank()))] != trips)
      c.fail("a scanned operand has another extent than there are trips");
  }
  std::vector<std::vector<Tensor>> slices(stacked);
  for (int64_t i = 0; i < trips && condition; ++i) {
    Tensor flag(DType::boolean, {});
    flag.set_integer(0, 1);
    std::vector<Box> parameters = {Box(Tensor::scalar_i64(i)), Box(std::move(flag))};
    for (Box& box : state) parameters.push_back(std::move(box));
    for (size_t s = 0; s < scanned; ++s) {
      const Tensor& x = c.in(2 + carried + s);
      const int64_t axis = axis_of(a.scan_axes[s], x.rank());
      Dims dims = x.dims();
      dims.erase(dims.begin() + axis);
      Tensor slice(x.dtype(), std::move(dims));
      copy_slice(x, axis, reversed(a.scan_reversed, s) ? trips - 1 - i : i, slice);
      parameters.push_back(Box(std::move(slice)));
    }
    for (size_t k = captures; k < c.inputs(); ++k) parameters.push_back(c.box(k));
    std::vector<Box> results = c.bodies().run(0, std::move(parameters));
    if (results.size() != 1 + carried + stacked) c.fail("its body has the wrong number of results");
    if (results[0].kind != Box::Kind::tensor || results[0].tensor.count() < 1) c.fail("its body gives no condition");
    condition = results[0].tensor.get_integer(0) != 0;
    for (size_t j = 0; j < carried; ++j) state[j] = std::move(results[1 + j]);
    for (size_t k = 0; k < stacked; ++k) {
      Box& box = results[1 + carried + k];
      if (box.kind != Box::Kind::tensor) c.fail("a stacked result is no tensor");
      if (!slices[k].empty() && slices[k][0].dims() != box.tensor.dims())
        c.fail("slices of a stacked result have different extents");
      slices[k].push_back(std::move(box.tensor));
    }
  }
  for (size_t j = 0; j < carried; ++j) c.outputs[j] = std::move(state[j]);
  for (size_t k = 0; k < stacked; ++k) {
    const Tensor first = slices[k].empty() ? c.bodies().without_running(0, 1 + carried + k) : slices[k][0];
    Dims dims = first.dims();
    const auto count = static_cast<int64_t>(slices[k].size());
    const int64_t axis = axis_of(a.stack_axes[k], dims.size() + 1);
    dims.insert(dims.begin() + axis, count);
    Tensor& out = c.out(carried + k, first.dtype(), std::move(dims));
    for (int64_t i = 0; i < count; ++i)
      put_slice(slices[k][static_cast<size_t>(i)], axis, reversed(a.stack_reversed, k) ? count - 1 - i : i, out);
  }
}

void infer_fragment(InferContext& c) {
  if (c.host.bodies() != 1) c.fail("it needs one body");
  const std::vector<Type> results = c.host.infer_body(0, operand_types(c, 0));
  if (results.size() != c.outputs()) c.fail("its body has another number of results");
  for (size_t o = 0; o < results.size(); ++o) c.set(o, results[o]);
}

void eval_fragment(EvalContext& c) {
  std::vector<Box> parameters;
  for (size_t i = 0; i < c.inputs(); ++i) parameters.push_back(c.box(i));
  std::vector<Box> results = c.bodies().run(0, std::move(parameters));
  for (size_t o = 0; o < c.outputs.size() && o < results.size(); ++o) c.outputs[o] = std::move(results[o]);
}

constexpr Op table[] = {
    {.name = "If",
     .inputs = {1, Arity::any},
     .outputs = {0, Arity::any},
     .is = {.never_fold = true},
     .infer = infer_if,
     .eval = eval_if},
    {.name = "Loop",
     .fields = fields<LoopAttrs>,
     .inputs = {0, Arity::any},
     .outputs = {0, Arity::any},
     .host_inputs = 0b1,
     .is = {.never_fold = true},
     .infer = infer_loop,
     .eval = eval_loop},
    {.name = "Fragment",
     .inputs = {0, Arity::any},
     .outputs = {0, Arity::any},
     .is = {.never_fold = true},
     .infer = infer_fragment,
     .eval = eval_fragment},
};

}  // namespace

void copy_slice(const Tensor& x, int64_t axis, int64_t index, Tensor& slice) {
  each_element_of_slice(x, axis, index,
                        [&](int64_t from, int64_t to, int64_t n) { move_elements(x, from, slice, to, n); });
}

void put_slice(const Tensor& slice, int64_t axis, int64_t index, Tensor& x) {
  each_element_of_slice(x, axis, index,
                        [&](int64_t to, int64_t from, int64_t n) { move_elements(slice, from, x, to, n); });
}

std::span<const Op> control_ops() { return table; }

}  // namespace sinter
