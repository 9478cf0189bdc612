#include "tensor/npy.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace sinter {
namespace {

std::span<const std::byte> bytes_of(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }

Tensor read(const std::string& s) { return read_npy(bytes_of(s)); }

std::string file(std::string_view dictionary, std::string_view data, int major = 1) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(major);
  out += '\0';
  const size_t n = dictionary.size();
  for (int k = 0; k < (major == 1 ? 2 : 4); ++k) out += static_cast<char>(static_cast<unsigned char>(n >> (8 * k)));
  out += dictionary;
  out += data;
  return out;
}

std::string header(std::string_view descr, std::string_view shape, bool fortran = false) {
  return "{'descr': '" + std::string(descr) + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + std::string(shape) + ", }\n";
}

using Integers = std::vector<int64_t>;

TEST(Npy, RoundTrip) {
  for (const DType dtype :
       {DType::boolean, DType::u8, DType::i8, DType::u16, DType::i16, DType::u32, DType::i32, DType::u64, DType::i64,
        DType::f16, DType::bf16, DType::f32, DType::f64, DType::c64, DType::c128})
    for (const Dims& dims : {Dims{}, Dims{4}, Dims{2, 3}, Dims{3, 0}, Dims{1, 2, 1, 2}}) {
      Tensor t(dtype, dims);
      for (int64_t i = 0; i < t.count(); ++i) t.set_real(i, static_cast<double>(i));
      const std::string text = write_npy(t);
      EXPECT_TRUE(read(text).identical(t)) << type_text(t);
      EXPECT_EQ((text.size() - static_cast<size_t>(t.bytes())) % 64, 0u);
    }
}

TEST(Npy, HeaderIsNumPys) {
  const std::string text = write_npy(Tensor(DType::f32, {3}));
  EXPECT_EQ(text.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_NE(text.find("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"), std::string::npos);
  EXPECT_NE(write_npy(Tensor(DType::i64, {})).find("'shape': (), }"), std::string::npos);
  EXPECT_NE(write_npy(Tensor(DType::bf16, {2, 3})).find("'|V2', 'fortran_order': False, 'shape': (2, 3), }"),
            std::string::npos);
}

TEST(Npy, TypesThatNumPyLacks) {
  Tensor nibbles(DType::i4, {3});
  for (int64_t i = 0; i < 3; ++i) nibbles.set_integer(i, i - 2);
  const Tensor signed_bytes = read(write_npy(nibbles));
  EXPECT_EQ(signed_bytes.dtype(), DType::i8);
  EXPECT_EQ(signed_bytes.to_integers(), (Integers{-2, -1, 0}));
  Tensor pairs(DType::u2, {5});
  for (int64_t i = 0; i < 5; ++i) pairs.set_integer(i, i);
  EXPECT_EQ(read(write_npy(pairs)).to_integers(), (Integers{0, 1, 2, 3, 0}));
  Tensor tiny(DType::f4e2m1, {3});
  tiny.set_real(1, -6);
  EXPECT_EQ(read(write_npy(tiny)).to_integers(), (Integers{0, 15, 0}));
  Tensor eight(DType::f8e4m3fn, {1});
  eight.set_real(0, 448);
  EXPECT_EQ(read(write_npy(eight)).to_integers(), (Integers{0x7e}));
}

TEST(Npy, ByteAndAxisOrders) {
  EXPECT_EQ(read(file(header(">i2", "(2,)"), std::string("\x01\x02\xff\xfe", 4))).to_integers(), (Integers{0x102, -2}));
  EXPECT_EQ(read(file(header("<i2", "(2,)"), std::string("\x01\x02\xff\xfe", 4))).to_integers(),
            (Integers{0x201, -257}));
  // Columns first: 1 2 | 3 4 | 5 6 are the columns of [[1, 3, 5], [2, 4, 6]].
  EXPECT_EQ(read(file(header("|u1", "(2, 3)", true), "\x01\x02\x03\x04\x05\x06")).to_integers(),
            (Integers{1, 3, 5, 2, 4, 6}));
  const Tensor cube = read(file(header("|u1", "(2, 1, 2)", true), "\x01\x02\x03\x04"));
  EXPECT_EQ(cube.to_integers(), (Integers{1, 3, 2, 4}));
  const Tensor complex = read(file(header(">c8", "()"), std::string("\x3f\x80\x00\x00\x40\x00\x00\x00", 8)));
  EXPECT_EQ(complex.as<float>()[0], 1);
  EXPECT_EQ(complex.as<float>()[1], 2);
  EXPECT_EQ(read(file(header("|b1", "(2,)"), std::string("\x00\x05", 2))).to_integers(), (Integers{0, 1}));
  EXPECT_EQ(read(file(header("?", "(1,)"), "\x01")).dtype(), DType::boolean);
}

TEST(Npy, VersionsAndSpellings) {
  for (const int major : {1, 2, 3}) EXPECT_EQ(read(file(header("|i1", "(1,)"), "\x05", major)).get_integer(0), 5);
  const std::string python2 = "{\"shape\": (1L, 2L), \"fortran_order\": False, \"descr\": \"|u1\"}";
  EXPECT_EQ(read(file(python2, "ab")).dims(), (Dims{1, 2}));
}

TEST(Npy, Strings) {
  Tensor t(DType::string, {2, 2});
  t.strings()[0] = "plain";
  t.strings()[1] = "h\xc3\xa9llo";
  t.strings()[2] = "\xe2\x82\xac \xf0\x9f\x98\x80";
  EXPECT_TRUE(read(write_npy(t)).identical(t));
  EXPECT_NE(write_npy(t).find("'<U5'"), std::string::npos);
  t.strings()[3] = "\xff\xfe";  // no UTF-8
  EXPECT_TRUE(read(write_npy(t)).identical(t));
  EXPECT_NE(write_npy(t).find("'|S8'"), std::string::npos);
  EXPECT_TRUE(read(write_npy(Tensor(DType::string, {3}))).identical(Tensor(DType::string, {3})));
  EXPECT_TRUE(read(write_npy(Tensor(DType::string, {0}))).identical(Tensor(DType::string, {0})));
  const Tensor big = read(file(header(">U2", "(1,)"), std::string("\0\0\0A\0\0\0\0", 8)));
  EXPECT_EQ(big.strings()[0], "A");
}

TEST(Npy, Refusals) {
  const std::string files[] = {
      "",
      "\x93NUMPY",
      "PK\x03\x04 something else entirely",
      file(header("<f4", "(2,)"), "1234567"),
      file(header("<f4", "(2,)"), "123456789"),
      file(header("<f4", "(-1,)"), ""),
      file(header("<f4", "(1099511627776, 1099511627776)"), ""),
      file(header("<f4", "(99999999999999999999,)"), ""),
      file(header("<f4", "(2"), "12345678"),
      file(header("|O", "(1,)"), "12345678"),
      file(header("<M8[ns]", "(1,)"), "12345678"),
      file(header("<f16", "(1,)"), std::string(16, '\0')),
      file(header("<i3", "(1,)"), "123"),
      file(header("", "(1,)"), "1"),
      file(header("<U0", "(1000000000000,)"), ""),
      file(header("<U1", "(1,)"), std::string("\x00\xd8\x00\x00", 4)),  // half of a surrogate pair
      file(header("<U1", "(1,)"), "\xff\xff\xff\x7f"),
      file(header("<U9223372036854775807", "(1,)"), "1234"),
      file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234"),
      file("{'descr': '<f4', 'shape': (1,)}", "1234"),
      file("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}", "1234"),
      file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "1234"),
      file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': '1'}", "1234"),
      file(header("<f4", "(1,)"), "1234", 9),
      file(header("<u1", "(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)"), "1"),
  };
  for (const std::string& f : files) EXPECT_THROW(read(f), Error) << f;
}

TEST(Npy, AnyBytes) {
  Tensor text(DType::string, {2});
  text.strings()[0] = "ab";
  const std::string seeds[] = {write_npy(Tensor(DType::f32, {2, 3})), write_npy(text),
                               file(header("|u1", "(2, 3)", true), "\x01\x02\x03\x04\x05\x06")};
  std::mt19937 random(3);
  int refused = 0;
  const auto attempt = [&](const std::string& s) {
    const std::vector<std::byte> exact(bytes_of(s).begin(), bytes_of(s).end());
    try {
      read_npy(exact);
    } catch (const Error&) {
      ++refused;
    }
  };
  for (const std::string& seed : seeds) {
    for (size_t n = 0; n < seed.size(); ++n) attempt(seed.substr(0, n));
    for (int k = 0; k < 3000; ++k) {
      std::string changed = seed;
      const size_t at = random() % std::min<size_t>(changed.size(), 80);
      changed[at] = static_cast<char>(random() % 128);
      attempt(changed);
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace sinter
