// Maps: MapRows(values [rows, n], keys [n]) → a sequence of one map a row, from every key to the row's element in its
// place · MapEntries(map) → its keys [n] and its values [n], in ascending order of the keys.

#include <fmt/format.h>

#include <cstring>

#include "ops/families.h"
#include "ops/op.h"

namespace sinter {
namespace {

void infer_rows(InferContext& c) {
  const DType value = c.dtype(0), key = c.dtype(1);
  if (!is_map_key(key)) c.fail(fmt::format("the keys are {}, they must be i64 or strings", dtype_name(key)));
  if (!is_map_value(value))
    c.fail(fmt::format("the values are {}, they must be i64, f32, f64 or strings", dtype_name(value)));
  c.set(0, Type::sequence(Type::map(key, value)));
  if (c.rank(0) != 2) c.fail(fmt::format("the values have rank {}, it must be 2", c.rank(0)));
  if (c.rank(1) != 1) c.fail(fmt::format("the keys have rank {}, it must be 1", c.rank(1)));
  c.require_equal(c.shape(0)[1], c.shape(1)[0], "number of keys and columns");
}

// All rows share their keys and lie in one piece of memory.
void eval_rows(EvalContext& c) {
  const Tensor &x = c.in(0), &labels = c.in(1);
  if (x.rank() != 2 || labels.rank() != 1 || x.dims()[1] != labels.count())
    c.fail(fmt::format("{} has no column for each of the keys {}", type_text(x), type_text(labels)));
  std::vector<int64_t> order;
  try {
    order = key_order(labels);
  } catch (const Error& error) {
    c.fail(error.what());
  }
  const int64_t rows = x.dims()[0], columns = labels.count();
  Tensor keys(labels.dtype(), labels.dims()), values(x.dtype(), x.dims());
  const bool text = x.dtype() == DType::string;
  const int64_t size = text ? static_cast<int64_t>(sizeof(std::string)) : bit_size(x.dtype()) / 8;
  for (int64_t k = 0; k < columns; ++k) {
    const int64_t from = order[static_cast<size_t>(k)];
    if (keys.dtype() == DType::string)
      keys.strings()[static_cast<size_t>(k)] = labels.strings()[static_cast<size_t>(from)];
    else
      keys.set_integer(k, labels.get_integer(from));
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t to = r * columns + k, at = r * columns + from;
      if (text)
        values.strings()[static_cast<size_t>(to)] = x.strings()[static_cast<size_t>(at)];
      else
        std::memcpy(values.as_mutable<std::byte>() + to * size, x.as<std::byte>() + at * size,
                    static_cast<size_t>(size));
    }
  }
  std::vector<Box> list;
  for (int64_t r = 0; r < rows; ++r) {
    Tensor row(values.dtype(), {columns}, values.as<std::byte>() + r * columns * size, values.owner());
    list.push_back(Box::map(keys, std::move(row)));
  }
  c.outputs[0] = Box::sequence(std::move(list));
}

void infer_entries(InferContext& c) {
  const Type& t = c.type(0);
  if (t.kind != Type::Kind::map) c.fail("the operand is no map");
  const Dim n = c.found_by_running(0, 0, 0, std::nullopt);
  c.set(0, t.dtype, {n});
  c.set(1, t.element->dtype, {n});
}

void eval_entries(EvalContext& c) {
  const Box& map = c.box(0);
  if (map.kind != Box::Kind::map) c.fail("the operand is no map");
  c.outputs[0] = Box(map.keys());
  c.outputs[1] = Box(map.values());
}

// Constants are tensors: what gives maps is not folded.
constexpr Op table[] = {
    {.name = "MapRows", .inputs = {2, 2}, .is = {.never_fold = true}, .infer = infer_rows, .eval = eval_rows},
    {.name = "MapEntries", .outputs = {2, 2}, .infer = infer_entries, .eval = eval_entries},
};

}  // namespace

std::span<const Op> map_ops() { return table; }

}  // namespace sinter
