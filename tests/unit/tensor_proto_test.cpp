#include "tensor/tensor_proto.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/error.h"

namespace sinter {
namespace {

std::span<const std::byte> bytes_of(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }

// A message written by hand, so that the code under test does not write its own examples.
struct Message {
  std::string bytes;

  Message& varint(uint64_t v) {
    for (; v >= 0x80; v >>= 7) bytes += static_cast<char>(static_cast<unsigned char>(v | 0x80));
    bytes += static_cast<char>(v);
    return *this;
  }
  Message& number(uint32_t field, uint64_t v) { return varint(field << 3).varint(v); }
  Message& data(uint32_t field, std::string_view v) {
    varint(field << 3 | 2).varint(v.size());
    bytes += v;
    return *this;
  }
  Message& fixed32(uint32_t field, float v) {
    varint(field << 3 | 5);
    bytes.append(reinterpret_cast<const char*>(&v), 4);
    return *this;
  }
  Message& packed(uint32_t field, std::vector<uint64_t> values) {
    Message inner;
    for (uint64_t v : values) inner.varint(v);
    return data(field, inner.bytes);
  }
  template <typename T>
  Message& fixed(uint32_t field, std::vector<T> values) {
    return data(field, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
  }
};

Tensor decode(const Message& m) { return decode_tensor_proto(bytes_of(m.bytes)).tensor; }

using Integers = std::vector<int64_t>;
using Reals = std::vector<double>;

constexpr DType all_dtypes[] = {
    DType::boolean, DType::u8,       DType::i8,         DType::u16,    DType::i16,        DType::u32,    DType::i32,
    DType::u64,     DType::i64,      DType::f16,        DType::bf16,   DType::f32,        DType::f64,    DType::c64,
    DType::c128,    DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2, DType::f8e5m2fnuz, DType::f8e8m0, DType::f4e2m1,
    DType::u4,      DType::i4,       DType::u2,         DType::i2,     DType::string};

Tensor sample(DType dtype, Dims dims) {
  Tensor t(dtype, std::move(dims));
  for (int64_t i = 0; i < t.count(); ++i) {
    if (dtype == DType::string)
      t.strings()[static_cast<size_t>(i)] = "text " + std::to_string(i);
    else if (is_integer(dtype) || dtype == DType::boolean)
      t.set_integer(i, i * 7 - 3);
    else
      t.set_real(i, static_cast<double>(i) - 1.5);
  }
  return t;
}

TEST(OnnxDataTypes, EveryDtypeHasItsNumber) {
  for (const DType dtype : all_dtypes) EXPECT_EQ(dtype_from_onnx(dtype_to_onnx(dtype)), dtype) << dtype_name(dtype);
  EXPECT_EQ(dtype_to_onnx(DType::f32), 1);
  EXPECT_EQ(dtype_to_onnx(DType::i64), 7);
  EXPECT_EQ(dtype_to_onnx(DType::string), 8);
  EXPECT_EQ(dtype_to_onnx(DType::bf16), 16);
  EXPECT_EQ(dtype_to_onnx(DType::i4), 22);
  EXPECT_EQ(dtype_to_onnx(DType::f8e8m0), 24);
  EXPECT_EQ(dtype_to_onnx(DType::i2), 26);
  for (const int64_t n : {int64_t{0}, int64_t{27}, int64_t{-1}, INT64_MAX}) EXPECT_FALSE(dtype_from_onnx(n));
}

TEST(TensorProto, RoundTripOfEveryDtype) {
  for (const DType dtype : all_dtypes)
    for (const Dims& dims : {Dims{}, Dims{0, 3}, Dims{5}, Dims{2, 1, 3}}) {
      const Tensor t = sample(dtype, dims);
      const NamedTensor back = decode_tensor_proto(bytes_of(encode_tensor_proto(t, "the name")));
      EXPECT_EQ(back.name, "the name");
      EXPECT_TRUE(back.tensor.identical(t)) << type_text(t);
    }
}

TEST(TensorProto, TypedFields) {
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 1).fixed<float>(4, {1.5f, -2})).to_reals(), (Reals{1.5, -2}));
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 1).fixed32(4, 3).fixed32(4, 4)).to_reals(), (Reals{3, 4}));
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 11).fixed<double>(10, {0.1, 2})).to_reals(), (Reals{0.1, 2}));
  EXPECT_EQ(decode(Message().packed(1, {3}).number(2, 7).packed(7, {1, ~uint64_t{0}, 5})).to_integers(),
            (Integers{1, -1, 5}));
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 7).number(7, 8).number(7, 9)).to_integers(), (Integers{8, 9}));
  EXPECT_EQ(decode(Message().number(2, 13).number(11, ~uint64_t{0})).get_integer(0), -1);
  EXPECT_EQ(decode(Message().number(2, 12).number(11, 4000000000)).get_integer(0), 4000000000);
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 3).packed(5, {~uint64_t{0}, 7})).to_integers(), (Integers{-1, 7}));
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 2).packed(5, {255, 7})).to_integers(), (Integers{255, 7}));
  EXPECT_EQ(decode(Message().number(1, 1).number(2, 6).packed(5, {~uint64_t{4}})).to_integers(), (Integers{-5}));
  EXPECT_EQ(decode(Message().number(1, 1).number(2, 5).packed(5, {~uint64_t{0}})).to_integers(), (Integers{-1}));
  EXPECT_EQ(decode(Message().number(1, 3).number(2, 9).packed(5, {0, 1, 2})).to_integers(), (Integers{0, 1, 1}));
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 10).packed(5, {0x3c00, 0xc000})).to_reals(), (Reals{1, -2}));
  EXPECT_EQ(decode(Message().number(1, 1).number(2, 16).packed(5, {0x3f80})).to_reals(), (Reals{1}));
  EXPECT_EQ(decode(Message().number(1, 1).number(2, 17).packed(5, {0x7e})).to_reals(), (Reals{448}));
  EXPECT_EQ(decode(Message().number(1, 3).number(2, 22).packed(5, {0xf1, 0x08})).to_integers(), (Integers{1, -1, -8}));
  EXPECT_EQ(decode(Message().number(1, 3).number(2, 21).packed(5, {0xf1, 0xf8})).to_integers(), (Integers{1, 15, 8}));
  EXPECT_EQ(decode(Message().number(1, 5).number(2, 25).packed(5, {0xe4, 0x02})).to_integers(),
            (Integers{0, 1, 2, 3, 2}));
  EXPECT_EQ(decode(Message().number(1, 2).number(2, 23).packed(5, {0x97})).to_reals(), (Reals{6, -0.5}));
  const Tensor complex = decode(Message().number(1, 1).number(2, 14).fixed<float>(4, {1, 2}));
  EXPECT_EQ(complex.as<float>()[1], 2);
  const Tensor text = decode(Message().number(1, 2).number(2, 8).data(6, "a").data(6, ""));
  EXPECT_EQ(text.strings()[0], "a");
}

TEST(TensorProto, PaddingBitsAndBoolsAreCleaned) {
  const Tensor nibbles = decode(Message().number(1, 1).number(2, 21).data(9, "\xf5"));
  EXPECT_EQ(nibbles.as<uint8_t>()[0], 5);
  const Tensor flags = decode(Message().number(1, 2).number(2, 9).data(9, std::string("\x07\x00", 2)));
  EXPECT_EQ(flags.as<uint8_t>()[0], 1);
}

TEST(TensorProto, PointsIntoAlignedBytes) {
  const auto buffer = std::make_shared<std::vector<double>>(4, 1.0);
  const auto* start = reinterpret_cast<const std::byte*>(buffer->data());
  const Tensor aligned = tensor_from_raw(DType::f32, {4}, {start, 16}, buffer, "w");
  EXPECT_EQ(aligned.data(), start);
  EXPECT_EQ(aligned.owner(), std::shared_ptr<const void>(buffer));
  const Tensor shifted = tensor_from_raw(DType::f32, {4}, {start + 2, 16}, buffer, "w");
  EXPECT_NE(shifted.data(), start + 2);
  EXPECT_EQ(std::memcmp(shifted.data(), start + 2, 16), 0);
  const Tensor unowned = tensor_from_raw(DType::f32, {4}, {start, 16}, nullptr, "w");
  EXPECT_NE(unowned.data(), start);
}

TEST(TensorProto, Refusals) {
  const std::string four(4, '\0');
  const Message bad[] = {
      Message().number(1, 1).number(2, 1),                                               // no data
      Message().number(1, 2).number(2, 1).data(9, four),                                 // too short
      Message().number(1, 0).number(2, 1).data(9, four),                                 // too long
      Message().number(1, ~uint64_t{0}).number(2, 1).data(9, four),                      // negative extent
      Message().number(1, 1).number(2, 1).packed(7, {1}),                                // wrong typed field
      Message().number(1, 1).data(9, four),                                              // no dtype
      Message().number(1, 1).number(2, 99).data(9, four),                                // unknown dtype
      Message().number(1, 1).number(2, 8).data(9, four),                                 // raw strings
      Message().number(1, 1).number(2, 1).data(9, four).number(14, 1),                   // external
      Message().number(1, 1).number(2, 1).data(3, "").data(9, four),                     // segments
      Message().number(1, uint64_t{1} << 35).number(1, uint64_t{1} << 35).number(2, 1),  // far too large
      Message().number(1, uint64_t{1} << 39).number(2, 1).fixed<float>(4, {1}),
      Message().number(1, uint64_t{1} << 39).number(2, 8),
      Message().data(1, "\xff").number(2, 1),  // a number without end
      Message().number(1, 1).number(2, 1).data(4, "abc"),
      Message().data(2, "x"),
      Message().number(9, 1),
  };
  for (const Message& m : bad) EXPECT_THROW(decode(m), Error) << &m - bad;
  Message ranks;
  for (int i = 0; i < 65; ++i) ranks.number(1, 1);
  EXPECT_THROW(decode(ranks.number(2, 1).data(9, four)), Error);
}

TEST(TensorProto, ViewOfExternalData) {
  const Message entry = Message().data(1, "location").data(2, "weights.bin");
  const Message m = Message().number(1, 3).number(2, 1).data(8, "w").data(13, entry.bytes).number(14, 1);
  const TensorProtoView view = parse_tensor_proto(bytes_of(m.bytes));
  EXPECT_TRUE(view.external);
  EXPECT_EQ(view.name, "w");
  EXPECT_EQ(view.dtype, DType::f32);
  ASSERT_EQ(view.external_data.size(), 1u);
  EXPECT_EQ(view.external_data[0].first, "location");
  EXPECT_EQ(view.external_data[0].second, "weights.bin");
}

bool same(const Box& a, const Box& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  if (a.kind == Box::Kind::tensor) return a.tensor.identical(b.tensor);
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!same(a.items[i], b.items[i])) return false;
  return true;
}

TEST(Values, SequencesAndOptionals) {
  const Type tensor = Type::tensor(DType::f32, std::nullopt);
  const Box one = Box(sample(DType::f32, {2})), two = Box(sample(DType::f32, {3, 1}));
  const Box list = Box::sequence({one, two});
  const std::pair<Box, Type> cases[] = {
      {one, tensor},
      {list, Type::sequence(tensor)},
      {Box::sequence({}), Type::sequence(tensor)},
      {Box::sequence({list, Box::sequence({})}), Type::sequence(Type::sequence(tensor))},
      {one, Type::optional(tensor)},
      {list, Type::optional(Type::sequence(tensor))},
      {Box(), Type::optional(tensor)},
      {Box(), Type::optional(Type::sequence(tensor))},
  };
  for (const auto& [box, type] : cases)
    EXPECT_TRUE(same(decode_value(bytes_of(encode_value(box, type, "v")), type), box)) << &box - &cases[0].first;
  EXPECT_THROW(encode_value(Box(), tensor), Error);
}

Box map_of(std::vector<std::string> keys, std::vector<int64_t> values) {
  Tensor k(DType::string, {static_cast<int64_t>(keys.size())});
  std::move(keys.begin(), keys.end(), k.strings().begin());
  return Box::map(std::move(k), Tensor::vector_i64(values));
}

TEST(Values, Maps) {
  const Type type = Type::map(DType::string, DType::i64), numbers = Type::map(DType::i64, DType::f32);
  const Box map = map_of({"b", "", "a"}, {1, 2, 3});
  EXPECT_TRUE(same(map, map_of({"", "a", "b"}, {2, 3, 1})));
  const Box number = Box::map(Tensor::vector_i64(std::vector<int64_t>{-3, 5}), sample(DType::f32, {2}));
  const Box text = Box::map(Tensor::vector_i64(std::vector<int64_t>{7}), sample(DType::string, {1}));
  const std::pair<Box, Type> cases[] = {
      {map, type},
      {map_of({}, {}), type},
      {number, numbers},
      {text, Type::map(DType::i64, DType::string)},
      {Box::sequence({map, map_of({}, {}), map}), Type::sequence(type)},
      {map, Type::optional(type)},
  };
  for (const auto& [box, of] : cases)
    EXPECT_TRUE(same(decode_value(bytes_of(encode_value(box, of, "v")), of), box)) << &box - &cases[0].first;
  EXPECT_THROW(map_of({"a", "b", "a"}, {1, 2, 3}), Error);
  EXPECT_THROW(map_of({"a"}, {1, 2}), Error);
  EXPECT_THROW(Box::map(sample(DType::f32, {2}), sample(DType::f32, {2})), Error);
  EXPECT_THROW(Box::map(sample(DType::i64, {2, 1}), sample(DType::f32, {2, 1})), Error);
  EXPECT_THROW(Box::map(sample(DType::i64, {2}), sample(DType::boolean, {2})), Error);
}

TEST(Values, RefuseMessagesThatAreNoMaps) {
  const Type type = Type::map(DType::i64, DType::f32);
  const std::string one = encode_tensor_proto(sample(DType::f32, {})),
                    two = encode_tensor_proto(sample(DType::f32, {2}));
  const auto values = [](std::vector<std::string> tensors) {
    Message m;
    for (const std::string& t : tensors) m.data(3, t);
    return m.bytes;
  };
  EXPECT_EQ(decode_value(bytes_of(Message().number(2, 7).number(3, 5).data(5, values({one})).bytes), type)
                .keys()
                .to_integers(),
            std::vector<int64_t>{5});
  const Message bad[] = {
      Message().number(2, 7).number(3, 5),                                           // no value
      Message().number(2, 7).data(5, values({one})),                                 // no key
      Message().number(2, 7).number(3, 5).data(4, "a").data(5, values({one})),       // two types of keys
      Message().number(2, 7).number(3, 5).number(3, 5).data(5, values({one, one})),  // twice
      Message().number(2, 7).number(3, 5).data(5, values({two})),                    // two elements
      Message().number(2, 7).packed(3, {5, 6}).data(5, values({one, encode_tensor_proto(sample(DType::i64, {}))})),
      Message().number(2, 7).number(3, 5).data(5, values({encode_tensor_proto(sample(DType::f16, {}))})),
      Message().number(2, 7).number(3, 5).data(5, Message().data(6, "").bytes),  // a map of maps
  };
  for (const Message& m : bad) EXPECT_THROW(decode_value(bytes_of(m.bytes), type), Error) << &m - bad;
}

TEST(Values, RefuseDepth) {
  const Type type = Type::sequence(Type::tensor(DType::f32, std::nullopt));
  std::string deep, maps;
  for (int i = 0; i < 1000; ++i) deep = Message().data(5, deep).bytes;
  EXPECT_THROW(decode_value(bytes_of(deep), type), Error);
  for (int i = 0; i < 1000; ++i) maps = Message().data(6, Message().data(5, maps).bytes).bytes;
  EXPECT_THROW(decode_value(bytes_of(maps), type), Error);
  const std::string tensor = encode_tensor_proto(sample(DType::f32, {1}));
  const std::string two = Message().data(3, tensor).data(3, tensor).bytes;
  EXPECT_THROW(decode_value(bytes_of(two), Type::optional(*type.element)), Error);
}

// Any bytes give a value or an Error: prefixes, flipped bits and noise.
TEST(Values, AnyBytes) {
  const Type tensor = Type::tensor(DType::f32, std::nullopt);
  const Type map = Type::map(DType::string, DType::i64);
  const Type types[] = {tensor, Type::sequence(tensor), Type::optional(tensor), map, Type::sequence(map)};
  std::vector<std::string> seeds;
  for (const DType dtype : all_dtypes) seeds.push_back(encode_tensor_proto(sample(dtype, {2, 3}), "name"));
  seeds.push_back(Message().number(1, 2).number(2, 1).fixed<float>(4, {1.5f, -2}).bytes);
  seeds.push_back(Message().packed(1, {3}).number(2, 7).packed(7, {1, ~uint64_t{0}, 5}).bytes);
  seeds.push_back(
      encode_value(Box::sequence({Box(sample(DType::i4, {3})), Box(sample(DType::string, {1}))}), types[1]));
  seeds.push_back(encode_value(map_of({"a", "b"}, {1, 2}), map));
  seeds.push_back(encode_value(Box::sequence({map_of({"a"}, {1}), map_of({}, {})}), types[4]));
  std::mt19937 random(7);
  int good = 0, refused = 0;
  const auto attempt = [&](const std::string& text) {
    // Exactly as many bytes as there are, so that a sanitizer sees a read past the end.
    const std::vector<std::byte> exact(bytes_of(text).begin(), bytes_of(text).end());
    for (const Type& type : types) {
      try {
        decode_value(exact, type);
        ++good;
      } catch (const Error&) {
        ++refused;
      }
    }
  };
  for (const std::string& seed : seeds) {
    for (size_t n = 0; n <= seed.size(); ++n) attempt(seed.substr(0, n));
    for (int k = 0; k < 300; ++k) {
      std::string changed = seed;
      for (int c = 0; c < 1 + k % 3; ++c) changed[random() % changed.size()] = static_cast<char>(random());
      attempt(changed);
    }
  }
  for (int k = 0; k < 2000; ++k) {
    std::string noise(random() % 40, '\0');
    for (char& c : noise) c = static_cast<char>(random() % 64);
    attempt(noise);
  }
  EXPECT_GT(good, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace sinter
