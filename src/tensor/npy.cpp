#include "tensor/npy.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/checked.h"
#include "base/scanner.h"

namespace sinter {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::string_view magic = "\x93NUMPY";

[[noreturn]] void bad(const std::string& why) {
  throw Error(Code::io, fmt::format("the bytes are no .npy file: {}", why));
}

struct Header {
  std::string descr;
  bool fortran = false;
  Dims dims;
};

// The header is a Python dictionary of three entries.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Header run() {
    Header h;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted_text();
      expect(':');
      if (key == "descr") {
        if (peek() == '[' || peek() == '(') throw Error(Code::unsupported, ".npy: records of several fields");
        h.descr = quoted_text();
        descr = true;
      } else if (key == "fortran_order") {
        h.fortran = truth();
        order = true;
      } else if (key == "shape") {
        h.dims = tuple();
        shape = true;
      } else {
        bad(fmt::format("the header has an entry '{}'", printable(key, 32)));
      }
      if (accept('}')) break;
      expect(',');
    }
    skip();
    if (at_ != text_.size()) bad("text after the header's dictionary");
    if (!descr || !order || !shape) bad("the header lacks descr, fortran_order or shape");
    return h;
  }

 private:
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) bad(fmt::format("'{}' is missing at byte {} of the header", c, at_));
  }
  bool accept_word(std::string_view word) {
    skip();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  std::string_view quoted_text() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') bad(fmt::format("a string is missing at byte {} of the header", at_));
    const size_t start = ++at_;
    const size_t end = text_.find(quote, start);
    if (end == std::string_view::npos) bad("a string in the header has no end");
    at_ = end + 1;
    return text_.substr(start, end - start);
  }

  bool truth() {
    if (accept_word("True")) return true;
    if (!accept_word("False")) bad("fortran_order is neither True nor False");
    return false;
  }

  Dims tuple() {
    Dims dims;
    expect('(');
    while (!accept(')')) {
      skip();
      int64_t extent = 0;
      const char* first = text_.data() + at_;
      const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), extent);
      if (error != std::errc() || extent < 0) bad("an extent is no number that fits");
      at_ += static_cast<size_t>(end - first);
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // of Python 2
      if (dims.size() == max_rank_of_values)
        throw Error(Code::limit, fmt::format(".npy: a rank of more than {}", max_rank_of_values));
      dims.push_back(extent);
      if (accept(')')) break;
      expect(',');
    }
    return dims;
  }

  std::string_view text_;
  size_t at_ = 0;
};

uint64_t little_endian(Bytes b) {
  uint64_t v = 0;
  for (size_t i = b.size(); i-- > 0;) v = v << 8 | static_cast<uint64_t>(b[i]);
  return v;
}

struct Descr {
  bool big_endian = false;
  char kind = 0;
  int64_t size = 0;  // as written: characters of U, bytes of the others
};

Descr parse_descr(std::string_view text) {
  Descr d;
  std::string_view rest = text;
  if (!rest.empty() && std::string_view("<>|=").find(rest[0]) != std::string_view::npos) {
    d.big_endian = rest[0] == '>';
    rest.remove_prefix(1);
  }
  if (rest.empty()) bad(fmt::format("element type '{}'", printable(text, 32)));
  d.kind = rest[0];
  rest.remove_prefix(1);
  if (d.kind == '?' && rest.empty()) return {false, 'b', 1};
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), d.size);
  if (error != std::errc() || end != rest.data() + rest.size() || d.size < 0)
    throw Error(Code::unsupported, fmt::format(".npy: element type '{}' is not known", printable(text, 32)));
  return d;
}

std::optional<DType> dtype_of(const Descr& d) {
  const auto pick = [&](DType one, DType two, DType four, DType eight) -> std::optional<DType> {
    switch (d.size) {
      case 1: return one;
      case 2: return two;
      case 4: return four;
      case 8: return eight;
      default: return std::nullopt;
    }
  };
  switch (d.kind) {
    case 'b': return d.size == 1 ? std::optional(DType::boolean) : std::nullopt;
    case 'i': return pick(DType::i8, DType::i16, DType::i32, DType::i64);
    case 'u': return pick(DType::u8, DType::u16, DType::u32, DType::u64);
    case 'f': return d.size == 1 ? std::nullopt : pick(DType::f16, DType::f16, DType::f32, DType::f64);
    case 'c': return d.size == 8 ? std::optional(DType::c64) : d.size == 16 ? std::optional(DType::c128) : std::nullopt;
    case 'V': return d.size == 1 ? std::optional(DType::u8) : d.size == 2 ? std::optional(DType::bf16) : std::nullopt;
    case 'U':
    case 'S': return DType::string;
    default: return std::nullopt;
  }
}

void append_utf8(std::string& out, uint32_t c) {
  if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) bad(fmt::format("a string holds {:#x}, which is no character", c));
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

// Characters of a text, or none if it is no UTF-8 (over-long forms and surrogates included).
std::optional<std::vector<uint32_t>> characters(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) -> uint32_t { return static_cast<unsigned char>(text[k]); };
    const uint32_t lead = byte(i++);
    const size_t more = lead < 0x80 ? 0 : lead >> 5 == 6 ? 1 : lead >> 4 == 14 ? 2 : lead >> 3 == 30 ? 3 : 4;
    if (more == 4 || text.size() - i < more) return std::nullopt;
    uint32_t c = more == 0 ? lead : lead & ((0x40u >> more) - 1);
    for (size_t k = 0; k < more; ++k, ++i) {
      if (byte(i) >> 6 != 2) return std::nullopt;
      c = c << 6 | (byte(i) & 0x3f);
    }
    constexpr uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return std::nullopt;
    out.push_back(c);
  }
  return out;
}

std::string read_string(Bytes item, const Descr& d) {
  std::string out;
  if (d.kind == 'S') {
    out.assign(reinterpret_cast<const char*>(item.data()), item.size());
    out.resize(out.find_last_not_of('\0') + 1);
    return out;
  }
  size_t end = item.size() / 4;
  const auto character = [&](size_t k) {
    uint32_t c = static_cast<uint32_t>(little_endian(item.subspan(4 * k, 4)));
    return d.big_endian ? __builtin_bswap32(c) : c;
  };
  while (end > 0 && character(end - 1) == 0) --end;
  for (size_t k = 0; k < end; ++k) append_utf8(out, character(k));
  return out;
}

// Calls f(from, to) for every element: `to` counts in row-major order, `from` in the file's.
template <typename F>
void each_element(const Header& h, int64_t count, F f) {
  if (!h.fortran || h.dims.size() < 2) {
    for (int64_t i = 0; i < count; ++i) f(i, i);
    return;
  }
  const size_t rank = h.dims.size();
  std::vector<int64_t> stride(rank), at(rank, 0);
  int64_t product = 1;
  for (size_t k = 0; k < rank; ++k) {
    stride[k] = product;
    if (count > 0) product *= h.dims[k];  // at most count
  }
  int64_t from = 0;
  for (int64_t i = 0; i < count; ++i) {
    f(from, i);
    for (size_t k = rank; k-- > 0;) {
      from += stride[k];
      if (++at[k] < h.dims[k]) break;
      from -= stride[k] * h.dims[k];
      at[k] = 0;
    }
  }
}

Header read_header(Bytes bytes, Bytes& data) {
  if (bytes.size() < 10 || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) bad("the signature is missing");
  const auto major = static_cast<int>(bytes[6]);
  if (major < 1 || major > 3) throw Error(Code::unsupported, fmt::format(".npy of version {}", major));
  const size_t length_bytes = major == 1 ? 2 : 4;
  if (bytes.size() < 8 + length_bytes) bad("it ends within the header");
  const uint64_t length = little_endian(bytes.subspan(8, length_bytes));
  const Bytes rest = bytes.subspan(8 + length_bytes);
  if (length > rest.size()) bad("it ends within the header");
  data = rest.subspan(length);
  return HeaderParser({reinterpret_cast<const char*>(rest.data()), static_cast<size_t>(length)}).run();
}

std::string with_header(std::string_view descr, const Dims& dims) {
  std::string shape;
  for (int64_t d : dims) shape += fmt::format("{}, ", d);
  if (dims.size() > 1) shape.resize(shape.size() - 2);
  if (dims.size() == 1) shape.resize(shape.size() - 1);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, shape);
  // Data start at a multiple of 64. Ranks are far too small for version 1's limit of 64 KiB.
  const size_t fixed = magic.size() + 4;
  header.append(63 - (fixed + header.size()) % 64, ' ');
  header += '\n';
  std::string out(magic);
  out += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return out + header;
}

std::string write_strings(const Tensor& t) {
  std::vector<std::vector<uint32_t>> texts;
  size_t width = 1, byte_width = 1;
  bool unicode = true;
  for (const std::string& s : t.strings()) {
    byte_width = std::max(byte_width, s.size());
    if (!unicode) continue;
    auto text = characters(s);
    unicode = text.has_value();
    if (!unicode) continue;
    width = std::max(width, text->size());
    texts.push_back(*std::move(text));
  }
  const int64_t item = unicode ? checked_mul(narrow<int64_t>(width), 4) : narrow<int64_t>(byte_width);
  const int64_t size = checked_mul(item, t.count(), "bytes of strings");
  std::string out = with_header(unicode ? fmt::format("<U{}", width) : fmt::format("|S{}", byte_width), t.dims());
  const size_t start = out.size();
  out.resize(start + static_cast<size_t>(size), '\0');
  for (size_t i = 0; i < static_cast<size_t>(t.count()); ++i) {
    char* to = out.data() + start + i * static_cast<size_t>(item);
    if (!unicode)
      std::memcpy(to, t.strings()[i].data(), t.strings()[i].size());
    else if (!texts[i].empty())
      std::memcpy(to, texts[i].data(), texts[i].size() * 4);
  }
  return out;
}

std::string descr_of(DType dtype) {
  switch (dtype) {
    case DType::boolean: return "|b1";
    case DType::bf16: return "|V2";
    case DType::f16: return "<f2";
    case DType::f32: return "<f4";
    case DType::f64: return "<f8";
    case DType::c64: return "<c8";
    case DType::c128: return "<c16";
    default: break;
  }
  if (!is_integer(dtype)) return "|V1";
  const int bytes = std::max(1, bit_size(dtype) / 8);
  return fmt::format("{}{}{}", bytes == 1 ? '|' : '<', is_signed(dtype) ? 'i' : 'u', bytes);
}

}  // namespace

Tensor read_npy(Bytes bytes) {
  Bytes data;
  const Header h = read_header(bytes, data);
  const Descr descr = parse_descr(h.descr);
  const auto dtype = dtype_of(descr);
  if (!dtype)
    throw Error(Code::unsupported, fmt::format(".npy: element type '{}' is not known", printable(h.descr, 32)));
  const int64_t count = element_count(h.dims);
  const int64_t item = descr.kind == 'U' ? checked_mul(descr.size, 4) : descr.size;
  if (*dtype == DType::string && item == 0 && count > 0) bad("strings of width 0");
  const int64_t wanted = checked_mul(item, count, "bytes of the array");
  if (static_cast<uint64_t>(wanted) != data.size())
    bad(fmt::format("the array needs {} bytes, there are {}", wanted, data.size()));
  Tensor out(*dtype, h.dims);
  const auto size = static_cast<size_t>(item);
  if (*dtype == DType::string) {
    each_element(h, count, [&](int64_t from, int64_t to) {
      out.strings()[static_cast<size_t>(to)] = read_string(data.subspan(static_cast<size_t>(from) * size, size), descr);
    });
    return out;
  }
  auto* target = out.as_mutable<std::byte>();
  const size_t unit = is_complex(*dtype) ? size / 2 : size;  // what a byte order turns around
  each_element(h, count, [&](int64_t from, int64_t to) {
    const std::byte* source = data.data() + static_cast<size_t>(from) * size;
    std::byte* element = target + static_cast<size_t>(to) * size;
    for (size_t part = 0; part < size; part += unit) {
      if (descr.big_endian)
        std::reverse_copy(source + part, source + part + unit, element + part);
      else
        std::memcpy(element + part, source + part, unit);
    }
    if (*dtype == DType::boolean) *element = std::byte{*element != std::byte{0}};
  });
  return out;
}

std::string write_npy(const Tensor& t) {
  if (t.dtype() == DType::string) return write_strings(t);
  std::string out = with_header(descr_of(t.dtype()), t.dims());
  if (t.count() == 0) return out;
  if (!is_sub_byte(t.dtype())) {
    out.append(t.as<char>(), static_cast<size_t>(t.bytes()));
    return out;
  }
  const int bits = bit_size(t.dtype()), per_byte = 8 / bits;
  for (int64_t i = 0; i < t.count(); ++i) {
    const int pattern = t.as<uint8_t>()[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1);
    out += static_cast<char>(is_float(t.dtype()) ? pattern : static_cast<int>(t.get_integer(i)));
  }
  return out;
}

}  // namespace sinter
