// ZipMap, DictVectorizer, CastMap.

#include <fmt/format.h>

#include "frontends/onnx/ml.h"
#include "ops/labels.h"

namespace sinter::onnx {
namespace {

constexpr int64_t max_dense = int64_t{1} << 24;  // elements that a sparse map may ask for

Type map_type(NodeContext& c) {
  const Type& t = c.b.type(c.in(0));
  if (t.kind != Type::Kind::map) c.fail("the operand is no map");
  return t;
}

struct Entries {
  ValueId keys, values;
};

Entries entries_of(NodeContext& c) {
  const Ids two = c.b.add(op_named("MapEntries"), Attrs(), {c.in(0)}, 2);
  return {two[0], two[1]};
}

// A row with the value for each of `wanted`; 0 or "" for what is no key.
ValueId row_of(GraphBuilder& b, ValueId wanted, const Entries& entries) {
  const ValueId otherwise = b.constant(Tensor(b.dtype(entries.values), {}));
  const ValueId found = b.op("Lookup", LookupAttrs{}, {wanted, entries.keys, entries.values, otherwise});
  return wiring::unsqueeze(b, found, {0});
}

}  // namespace

void import_zip_map(NodeContext& c) {
  const Labels labels = labels_of(c, "classlabels_int64s", "classlabels_strings");
  if (labels.values == no_id) c.fail("there are no class labels");
  try {
    key_order(*c.b.constant_of(labels.values));
  } catch (const Error& error) {
    c.fail(error.what());
  }
  ValueId x = wiring::cast(c.b, c.in(0), DType::f32);
  const size_t rank = rank_of(c, 0, 1);
  if (rank > 2) c.fail(fmt::format("the operand has rank {}, it must be 1 or 2", rank));
  if (rank == 1) x = wiring::unsqueeze(c.b, x, {0});
  c.out(0, c.b.op("MapRows", {x, labels.values}));
}

void import_dict_vectorizer(NodeContext& c) {
  const Type t = map_type(c);
  const Labels vocabulary = labels_of(c, "int64_vocabulary", "string_vocabulary");
  if (vocabulary.values == no_id) c.fail("there is no vocabulary");
  if (const DType words = c.b.dtype(vocabulary.values); words != t.dtype)
    c.fail(fmt::format("the keys are {}, the vocabulary is {}", dtype_name(t.dtype), dtype_name(words)));
  c.out(0, row_of(c.b, vocabulary.values, entries_of(c)));
}

void import_cast_map(NodeContext& c) {
  const Type t = map_type(c);
  if (t.dtype != DType::i64) c.fail("the keys must be i64");
  const std::string to = c.string("cast_to", "TO_FLOAT"), form = c.string("map_form", "DENSE");
  DType dtype = DType::f32;
  if (to == "TO_STRING")
    dtype = DType::string;
  else if (to == "TO_INT64")
    dtype = DType::i64;
  else if (to != "TO_FLOAT")
    c.fail(fmt::format("cast_to '{}' is none of TO_FLOAT, TO_STRING, TO_INT64", to));
  Entries entries = entries_of(c);
  entries.values = wiring::cast(c.b, entries.values, dtype);
  if (form == "DENSE") {
    c.out(0, wiring::unsqueeze(c.b, entries.values, {0}));
  } else if (form == "SPARSE") {
    const int64_t most = c.integer("max_map", 1);
    if (most < 1 || most > max_dense) c.fail(fmt::format("max_map is {}, it must be from 1 to {}", most, max_dense));
    c.out(0, row_of(c.b, wiring::iota(c.b, c.b.constant(Tensor::scalar_i64(most))), entries));
  } else {
    c.fail(fmt::format("map_form '{}' is none of DENSE, SPARSE", form));
  }
}

}  // namespace sinter::onnx
