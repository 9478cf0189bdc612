#include "tensor/tensor_proto.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

#include "base/checked.h"
#include "base/scanner.h"

namespace sinter {
namespace {

using Bytes = std::span<const std::byte>;
using protozero::pbf_reader;
using protozero::pbf_wire_type;

struct Number {
  DType dtype;
  int onnx;
};

constexpr Number numbers[] = {
    {DType::f32, 1},   {DType::u8, 2},        {DType::i8, 3},          {DType::u16, 4},     {DType::i16, 5},
    {DType::i32, 6},   {DType::i64, 7},       {DType::string, 8},      {DType::boolean, 9}, {DType::f16, 10},
    {DType::f64, 11},  {DType::u32, 12},      {DType::u64, 13},        {DType::c64, 14},    {DType::c128, 15},
    {DType::bf16, 16}, {DType::f8e4m3fn, 17}, {DType::f8e4m3fnuz, 18}, {DType::f8e5m2, 19}, {DType::f8e5m2fnuz, 20},
    {DType::u4, 21},   {DType::i4, 22},       {DType::f4e2m1, 23},     {DType::f8e8m0, 24}, {DType::u2, 25},
    {DType::i2, 26},
};
static_assert(sizeof numbers / sizeof *numbers == dtype_count);

// Fields of TensorProto.
enum TensorField : uint32_t {
  dims_field = 1,
  data_type_field = 2,
  segment_field = 3,
  float_data_field = 4,
  int32_data_field = 5,
  string_data_field = 6,
  int64_data_field = 7,
  name_field = 8,
  raw_data_field = 9,
  double_data_field = 10,
  uint64_data_field = 11,
  external_data_field = 13,
  data_location_field = 14,
};

// Fields of SequenceProto and OptionalProto, whose numbers agree.
enum ContainerField : uint32_t {
  container_name_field = 1,
  elem_type_field = 2,
  tensor_field = 3,
  sparse_field = 4,
  sequence_field = 5,
  map_field = 6,
  optional_field = 7,
};
enum ElementType : int32_t { element_tensor = 1, element_sequence = 3, element_map = 4, element_optional = 5 };

enum MapField : uint32_t { key_type_field = 2, integer_keys_field = 3, string_keys_field = 4, map_values_field = 5 };

constexpr int max_depth = 16;  // of sequences in sequences

[[noreturn]] void invalid(std::string message) { throw Error(Code::model_invalid, std::move(message)); }

// Everything that reads a message runs in here: the reader's own exceptions become ours.
template <typename F>
auto reading(const char* message, F f) {
  try {
    return f();
  } catch (const protozero::exception& error) {
    invalid(fmt::format("the bytes are no {}: {}", message, error.what()));
  }
}

pbf_reader reader(Bytes bytes) { return pbf_reader(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }

Bytes bytes_of(protozero::data_view v) { return {reinterpret_cast<const std::byte*>(v.data()), v.size()}; }

void want(const pbf_reader& m, pbf_wire_type type, const char* field) {
  if (m.wire_type() != type) invalid(fmt::format("field '{}' has the wrong wire type", field));
}

Bytes read_bytes(pbf_reader& m, const char* field) {
  want(m, pbf_wire_type::length_delimited, field);
  return bytes_of(m.get_view());
}

std::string_view read_text(pbf_reader& m, const char* field) {
  const Bytes b = read_bytes(m, field);
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

uint64_t read_varint(pbf_reader& m, const char* field) {
  want(m, pbf_wire_type::varint, field);
  return m.get_uint64();
}

// Calls f with each number of a repeated varint field, packed or not.
template <typename F>
void each_varint(pbf_reader& m, const char* field, F f) {
  if (m.wire_type() != pbf_wire_type::length_delimited) return f(read_varint(m, field));
  const Bytes packed = read_bytes(m, field);
  const char* at = reinterpret_cast<const char*>(packed.data());
  const char* const end = at + packed.size();
  while (at != end) f(protozero::decode_varint(&at, end));
}

// Calls f with the bytes of a repeated fixed-width field, packed or not.
template <typename T, typename F>
void each_fixed(pbf_reader& m, const char* field, F f) {
  if (m.wire_type() == pbf_wire_type::length_delimited) {
    const Bytes packed = read_bytes(m, field);
    if (packed.size() % sizeof(T) != 0) invalid(fmt::format("field '{}' ends within a number", field));
    return f(packed);
  }
  want(m, sizeof(T) == 4 ? pbf_wire_type::fixed32 : pbf_wire_type::fixed64, field);
  std::byte one[sizeof(T)];
  if constexpr (sizeof(T) == 4) {
    const uint32_t v = m.get_fixed32();
    std::memcpy(one, &v, sizeof v);
  } else {
    const uint64_t v = m.get_fixed64();
    std::memcpy(one, &v, sizeof v);
  }
  f(Bytes(one, sizeof one));
}

std::pair<std::string_view, std::string_view> read_entry(Bytes bytes) {
  std::pair<std::string_view, std::string_view> entry;
  pbf_reader m = reader(bytes);
  while (m.next()) {
    if (m.tag() == 1)
      entry.first = read_text(m, "key");
    else if (m.tag() == 2)
      entry.second = read_text(m, "value");
    else
      m.skip();
  }
  return entry;
}

std::string label(std::string_view name) {
  return name.empty() ? "a tensor without name" : fmt::format("tensor '{}'", printable(name));
}

std::string extents_text(DType dtype, const Dims& dims) {
  std::string out = fmt::format("{}[", dtype_name(dtype));
  for (size_t i = 0; i < dims.size(); ++i) out += fmt::format("{}{}", i ? ", " : "", dims[i]);
  return out + "]";
}

// The typed field that holds elements of a dtype, and how many of its numbers (times numerator / denominator).
struct Typed {
  TensorField field;
  const char* name;
  int numerator = 1, denominator = 1;
};

Typed typed_field(DType dtype) {
  switch (dtype) {
    case DType::f32: return {float_data_field, "float_data"};
    case DType::c64: return {float_data_field, "float_data", 2};
    case DType::f64: return {double_data_field, "double_data"};
    case DType::c128: return {double_data_field, "double_data", 2};
    case DType::i64: return {int64_data_field, "int64_data"};
    case DType::u32:
    case DType::u64: return {uint64_data_field, "uint64_data"};
    case DType::string: return {string_data_field, "string_data"};
    case DType::u4:
    case DType::i4:
    case DType::f4e2m1: return {int32_data_field, "int32_data", 1, 2};
    case DType::u2:
    case DType::i2: return {int32_data_field, "int32_data", 1, 4};
    default: return {int32_data_field, "int32_data"};
  }
}

const char* field_name(uint32_t field) {
  switch (field) {
    case float_data_field: return "float_data";
    case int32_data_field: return "int32_data";
    case string_data_field: return "string_data";
    case int64_data_field: return "int64_data";
    case double_data_field: return "double_data";
    case uint64_data_field: return "uint64_data";
    default: return nullptr;
  }
}

// Bytes of a number in a typed field of fixed width; 0 for others.
size_t fixed_width(uint32_t field) { return field == float_data_field ? 4 : field == double_data_field ? 8 : 0; }

// Numbers (or strings) in the typed field; every other typed field must be empty.
int64_t count_typed(const TensorProtoView& view, const Typed& typed) {
  int64_t count = 0;
  pbf_reader m = reader(view.message);
  while (m.next()) {
    const uint32_t tag = m.tag();
    const char* name = field_name(tag);
    if (!name) {
      m.skip();
      continue;
    }
    int64_t n = 0;
    if (tag == string_data_field) {
      read_bytes(m, name);
      n = 1;
    } else if (fixed_width(tag) == 4) {
      each_fixed<float>(m, name, [&](Bytes b) { n += static_cast<int64_t>(b.size() / 4); });
    } else if (fixed_width(tag) == 8) {
      each_fixed<double>(m, name, [&](Bytes b) { n += static_cast<int64_t>(b.size() / 8); });
    } else {
      each_varint(m, name, [&](uint64_t) { ++n; });
    }
    if (tag != typed.field && n > 0)
      invalid(fmt::format("{} of {} has numbers in {}, they belong in {}", label(view.name), dtype_name(*view.dtype),
                          name, typed.name));
    count += n;
  }
  return count;
}

void fill_typed(const TensorProtoView& view, const Typed& typed, Tensor& out) {
  pbf_reader m = reader(view.message);
  size_t at = 0;
  // A number is stored in as many low bytes as the dtype has; numbers of sub-byte dtypes are packed bytes.
  const size_t width = std::max<size_t>(1, static_cast<size_t>(bit_size(out.dtype())) / 8);
  auto* data = out.dtype() == DType::string ? nullptr : out.as_mutable<std::byte>();
  while (m.next()) {
    if (m.tag() != typed.field) {
      m.skip();
      continue;
    }
    const auto append = [&](Bytes b) {
      if (!b.empty()) std::memcpy(data + at, b.data(), b.size());
      at += b.size();
    };
    if (typed.field == string_data_field) {
      out.strings()[at++] = read_text(m, typed.name);
    } else if (fixed_width(typed.field) == 4) {
      each_fixed<float>(m, typed.name, append);
    } else if (fixed_width(typed.field) == 8) {
      each_fixed<double>(m, typed.name, append);
    } else {
      each_varint(m, typed.name, [&](uint64_t v) {
        std::memcpy(data + at, &v, width);
        at += width;
      });
    }
  }
}

// Bytes of bool are 0 or 1 and the bits after the last sub-byte element are 0 in every Tensor.
bool is_clean(DType dtype, int64_t count, Bytes raw) {
  if (dtype == DType::boolean)
    return std::all_of(raw.begin(), raw.end(), [](std::byte b) { return b <= std::byte{1}; });
  if (!is_sub_byte(dtype)) return true;
  const int used = static_cast<int>(count * bit_size(dtype) % 8);
  return used == 0 || (raw.back() >> used) == std::byte{0};
}

void clean(Tensor& t) {
  auto* data = t.as_mutable<uint8_t>();
  if (t.dtype() == DType::boolean) {
    for (int64_t i = 0; i < t.count(); ++i) data[i] = data[i] != 0;
  } else if (is_sub_byte(t.dtype())) {
    const int used = static_cast<int>(t.count() * bit_size(t.dtype()) % 8);
    if (used != 0) data[t.bytes() - 1] &= static_cast<uint8_t>((1 << used) - 1);
  }
}

size_t alignment_of(DType dtype) {
  const int bits = is_complex(dtype) ? bit_size(dtype) / 2 : bit_size(dtype);
  return std::max<size_t>(1, static_cast<size_t>(bits) / 8);
}

// Containers

Box decode_container(Bytes bytes, bool optional, int depth, DType value_type);

Box decode_tensor(Bytes bytes) {
  Tensor t = decode_tensor_proto(bytes).tensor;
  if (t.rank() > max_rank_of_values)
    throw Error(Code::limit, fmt::format("a value of rank {}, more than {}", t.rank(), max_rank_of_values));
  return Box(std::move(t));
}

// MapProto keeps each value as a tensor of its own.
Box decode_map(Bytes bytes, DType value_type, int depth) {
  std::vector<int64_t> integers;
  std::vector<std::string> strings;
  std::vector<Box> items;
  int64_t key_type = 0;
  pbf_reader m = reader(bytes);
  while (m.next()) {
    switch (m.tag()) {
      case key_type_field: key_type = static_cast<int64_t>(read_varint(m, "key_type")); break;
      case integer_keys_field:
        each_varint(m, "keys", [&](uint64_t v) { integers.push_back(static_cast<int64_t>(v)); });
        break;
      case string_keys_field: strings.emplace_back(read_text(m, "string_keys")); break;
      case map_values_field:
        items = decode_container(read_bytes(m, "values"), false, depth + 1, value_type).items;
        break;
      default: m.skip(); break;
    }
  }
  const bool text = key_type == dtype_to_onnx(DType::string) || !strings.empty();
  if (!integers.empty() && !strings.empty()) invalid("a MapProto has keys of two types");
  const size_t count = text ? strings.size() : integers.size();
  if (items.size() != count) invalid(fmt::format("a MapProto has {} keys and {} values", count, items.size()));
  Tensor keys(text ? DType::string : DType::i64, {static_cast<int64_t>(count)});
  if (text)
    std::move(strings.begin(), strings.end(), keys.strings().begin());
  else
    std::copy(integers.begin(), integers.end(), keys.as_mutable<int64_t>());
  const DType dtype = !items.empty() && items[0].kind == Box::Kind::tensor ? items[0].tensor.dtype() : value_type;
  if (!is_map_value(dtype)) invalid(fmt::format("a MapProto has values of {}", dtype_name(dtype)));
  Tensor values(dtype, keys.dims());
  for (size_t i = 0; i < count; ++i) {
    const Tensor& value = items[i].tensor;
    if (items[i].kind != Box::Kind::tensor || value.dtype() != dtype || value.count() != 1)
      invalid(fmt::format("value {} of a MapProto is no single {}, as the others are", i, dtype_name(dtype)));
    const auto size = static_cast<size_t>(bit_size(dtype)) / 8;
    if (dtype == DType::string)
      values.strings()[i] = value.strings()[0];
    else
      std::memcpy(values.as_mutable<std::byte>() + i * size, value.data(), size);
  }
  return Box::map(std::move(keys), std::move(values));
}

// `value_type`: of maps in it that are empty.
Box decode_container(Bytes bytes, bool optional, int depth, DType value_type) {
  const char* what = optional ? "OptionalProto" : "SequenceProto";
  if (depth > max_depth) invalid(fmt::format("values are nested more than {} deep", max_depth));
  std::vector<Box> items;
  pbf_reader m = reader(bytes);
  while (m.next()) {
    switch (m.tag()) {
      case tensor_field: items.push_back(decode_tensor(read_bytes(m, what))); break;
      case sequence_field: items.push_back(decode_container(read_bytes(m, what), false, depth + 1, value_type)); break;
      case optional_field: items.push_back(decode_container(read_bytes(m, what), true, depth + 1, value_type)); break;
      case map_field: items.push_back(decode_map(read_bytes(m, what), value_type, depth + 1)); break;
      case sparse_field:
        throw Error(Code::unsupported, fmt::format("a {} of sparse tensors: only dense ones can be read", what));
      default: m.skip(); break;
    }
  }
  if (!optional) return Box::sequence(std::move(items));
  if (items.size() > 1) invalid("an OptionalProto holds more than one value");
  return items.empty() ? Box() : std::move(items[0]);
}

int element_type(const Box& item) {
  return item.kind == Box::Kind::tensor     ? element_tensor
         : item.kind == Box::Kind::sequence ? element_sequence
         : item.kind == Box::Kind::map      ? element_map
                                            : element_optional;
}

int element_type(const Type& type) {
  if (!type.element) return element_tensor;
  return type.element->kind == Type::Kind::sequence   ? element_sequence
         : type.element->kind == Type::Kind::optional ? element_optional
         : type.element->kind == Type::Kind::map      ? element_map
                                                      : element_tensor;
}

void write_name(protozero::pbf_writer& m, uint32_t field, std::string_view name) {
  if (!name.empty()) m.add_string(field, name.data(), name.size());
}

std::string encode_map(const Box& value, std::string_view name) {
  const Tensor &keys = value.keys(), &values = value.values();
  std::string out, list;
  protozero::pbf_writer m(out), all(list);
  write_name(m, container_name_field, name);
  m.add_int32(key_type_field, dtype_to_onnx(keys.dtype()));
  if (keys.dtype() == DType::string)
    for (const std::string& key : keys.strings()) m.add_bytes(string_keys_field, key);
  else
    for (int64_t i = 0; i < keys.count(); ++i) m.add_int64(integer_keys_field, keys.as<int64_t>()[i]);
  all.add_int32(elem_type_field, element_tensor);
  for (int64_t i = 0; i < values.count(); ++i) {
    const int64_t size =
        values.dtype() == DType::string ? static_cast<int64_t>(sizeof(std::string)) : bit_size(values.dtype()) / 8;
    const Tensor one(values.dtype(), {}, values.as<std::byte>() + i * size, values.owner());
    all.add_message(tensor_field, encode_tensor_proto(one));
  }
  m.add_message(map_values_field, list);
  return out;
}

std::string encode_sequence(const Box& value, int of, std::string_view name) {
  std::string out;
  protozero::pbf_writer m(out);
  write_name(m, container_name_field, name);
  m.add_int32(elem_type_field, value.items.empty() ? of : element_type(value.items[0]));
  for (const Box& item : value.items) {
    switch (item.kind) {
      case Box::Kind::tensor: m.add_message(tensor_field, encode_tensor_proto(item.tensor)); break;
      case Box::Kind::sequence: m.add_message(sequence_field, encode_sequence(item, element_tensor, {})); break;
      case Box::Kind::map: m.add_message(map_field, encode_map(item, {})); break;
      case Box::Kind::none: m.add_message(optional_field, std::string()); break;
    }
  }
  return out;
}

}  // namespace

std::optional<DType> dtype_from_onnx(int64_t data_type) {
  for (const Number& n : numbers)
    if (n.onnx == data_type) return n.dtype;
  return std::nullopt;
}

int dtype_to_onnx(DType dtype) {
  for (const Number& n : numbers)
    if (n.dtype == dtype) return n.onnx;
  return 0;
}

TensorProtoView parse_tensor_proto(Bytes bytes) {
  return reading("TensorProto", [&] {
    TensorProtoView view;
    view.message = bytes;
    pbf_reader m = reader(bytes);
    while (m.next()) {
      switch (m.tag()) {
        case dims_field:
          each_varint(m, "dims", [&](uint64_t v) {
            if (view.dims.size() == max_rank) throw Error(Code::limit, fmt::format("a rank of more than {}", max_rank));
            view.dims.push_back(static_cast<int64_t>(v));
          });
          break;
        case data_type_field: view.data_type = static_cast<int32_t>(read_varint(m, "data_type")); break;
        case segment_field: throw Error(Code::unsupported, "a tensor stored in segments");
        case name_field: view.name = read_text(m, "name"); break;
        case raw_data_field:
          view.raw = read_bytes(m, "raw_data");
          view.has_raw = true;
          break;
        case external_data_field: view.external_data.push_back(read_entry(read_bytes(m, "external_data"))); break;
        case data_location_field: view.external = read_varint(m, "data_location") == 1; break;
        default: m.skip(); break;
      }
    }
    view.dtype = dtype_from_onnx(view.data_type);
    for (int64_t d : view.dims)
      if (d < 0) invalid(fmt::format("{} has an extent of {}", label(view.name), d));
    element_count(view.dims);
    return view;
  });
}

Tensor tensor_from_raw(DType dtype, Dims dims, Bytes raw, std::shared_ptr<const void> owner, std::string_view what) {
  const int64_t count = element_count(dims);
  if (dtype == DType::string) invalid(fmt::format("{}: strings have no raw data", label(what)));
  if (static_cast<uint64_t>(byte_size(dtype, count)) != raw.size())
    invalid(fmt::format("{}: {} needs {} bytes, there are {}", label(what), extents_text(dtype, dims),
                        byte_size(dtype, count), raw.size()));
  if (count == 0) return Tensor(dtype, std::move(dims));
  const bool aligned = reinterpret_cast<uintptr_t>(raw.data()) % alignment_of(dtype) == 0;
  if (owner && aligned && is_clean(dtype, count, raw))
    return Tensor(dtype, std::move(dims), raw.data(), std::move(owner));
  Tensor out(dtype, std::move(dims));
  std::memcpy(out.mutable_data(), raw.data(), raw.size());
  clean(out);
  return out;
}

Tensor materialize(const TensorProtoView& view, std::shared_ptr<const void> owner) {
  return reading("TensorProto", [&] {
    if (!view.dtype)
      throw Error(view.data_type == 0 ? Code::model_invalid : Code::unsupported,
                  fmt::format("{} has data type {}, which is none that can be held", label(view.name), view.data_type));
    if (view.external) invalid(fmt::format("{} keeps its data in another file", label(view.name)));
    if (view.has_raw) return tensor_from_raw(*view.dtype, view.dims, view.raw, std::move(owner), view.name);
    const Typed typed = typed_field(*view.dtype);
    const int64_t count = element_count(view.dims);
    const int64_t wanted = (count * typed.numerator + typed.denominator - 1) / typed.denominator;
    const int64_t found = count_typed(view, typed);
    if (found != wanted)
      invalid(fmt::format("{}: {} needs {} numbers in {}, there are {}", label(view.name),
                          extents_text(*view.dtype, view.dims), wanted, typed.name, found));
    Tensor out(*view.dtype, view.dims);
    if (count == 0) return out;
    fill_typed(view, typed, out);
    if (out.dtype() != DType::string) clean(out);
    return out;
  });
}

NamedTensor decode_tensor_proto(Bytes bytes) {
  const TensorProtoView view = parse_tensor_proto(bytes);
  return {std::string(view.name), materialize(view, nullptr)};
}

std::string encode_tensor_proto(const Tensor& tensor, std::string_view name) {
  if (tensor.bytes() > INT32_MAX - 4096)
    throw Error(Code::limit, fmt::format("{} is too large for a message of ONNX, which ends at 2 GiB; save it as .npy",
                                         type_text(tensor)));
  std::string out;
  protozero::pbf_writer m(out);
  for (int64_t d : tensor.dims()) m.add_int64(dims_field, d);
  m.add_int32(data_type_field, dtype_to_onnx(tensor.dtype()));
  if (tensor.dtype() == DType::string) {
    for (const std::string& s : tensor.strings()) m.add_bytes(string_data_field, s);
    write_name(m, name_field, name);
  } else {
    write_name(m, name_field, name);
    m.add_bytes(raw_data_field, tensor.as<char>(), static_cast<size_t>(tensor.bytes()));
  }
  return out;
}

Box decode_value(Bytes bytes, const Type& type) {
  const Type* inner = &type;
  while (inner->element) inner = inner->element.get();
  const DType value = inner->is_tensor() && is_map_value(inner->dtype) ? inner->dtype : DType::f32;
  switch (type.kind) {
    case Type::Kind::sequence:
      return reading("SequenceProto", [&] { return decode_container(bytes, false, 0, value); });
    case Type::Kind::optional: return reading("OptionalProto", [&] { return decode_container(bytes, true, 0, value); });
    case Type::Kind::map: return reading("MapProto", [&] { return decode_map(bytes, value, 0); });
    default: return decode_tensor(bytes);
  }
}

std::string encode_value(const Box& value, const Type& type, std::string_view name) {
  if (type.kind == Type::Kind::optional) {
    std::string out;
    protozero::pbf_writer m(out);
    write_name(m, container_name_field, name);
    m.add_int32(elem_type_field, value.kind == Box::Kind::none ? element_type(type) : element_type(value));
    if (value.kind == Box::Kind::tensor) m.add_message(tensor_field, encode_tensor_proto(value.tensor));
    if (value.kind == Box::Kind::sequence)
      m.add_message(sequence_field, encode_sequence(value, element_type(*type.element), {}));
    if (value.kind == Box::Kind::map) m.add_message(map_field, encode_map(value, {}));
    return out;
  }
  if (value.kind == Box::Kind::sequence) return encode_sequence(value, element_type(type), name);
  if (value.kind == Box::Kind::map) return encode_map(value, name);
  if (value.kind == Box::Kind::tensor) return encode_tensor_proto(value.tensor, name);
  throw Error(Code::invalid_argument,
              "an empty optional has no message of its own: its type is not that of an optional");
}

}  // namespace sinter
