#include "ops/utf8.h"

namespace sinter {
namespace {

// Letters of which the upper form lies `distance` below the lower one, or, with distance 1, alternates with it.
struct CaseRange {
  char32_t first, last;  // of the upper forms; of the pairs where they alternate
  int32_t distance;
  bool alternates;
};

constexpr CaseRange ranges[] = {
    {'A', 'Z', 32, false},       {0xC0, 0xD6, 32, false},     {0xD8, 0xDE, 32, false},
    {0x100, 0x12F, 1, true},     {0x132, 0x137, 1, true},     {0x139, 0x148, 1, true},
    {0x14A, 0x177, 1, true},     {0x178, 0x178, -121, false}, {0x179, 0x17E, 1, true},
    {0x1CD, 0x1DC, 1, true},     {0x1DE, 0x1EF, 1, true},     {0x1F8, 0x21F, 1, true},
    {0x222, 0x233, 1, true},     {0x370, 0x373, 1, true},     {0x376, 0x377, 1, true},
    {0x386, 0x386, 38, false},   {0x388, 0x38A, 37, false},   {0x38C, 0x38C, 64, false},
    {0x38E, 0x38F, 63, false},   {0x391, 0x3A1, 32, false},   {0x3A3, 0x3AB, 32, false},
    {0x3D8, 0x3EF, 1, true},     {0x400, 0x40F, 80, false},   {0x410, 0x42F, 32, false},
    {0x460, 0x481, 1, true},     {0x48A, 0x4BF, 1, true},     {0x4C0, 0x4C0, 15, false},
    {0x4C1, 0x4CE, 1, true},     {0x4D0, 0x52F, 1, true},     {0x531, 0x556, 48, false},
    {0x1E00, 0x1E95, 1, true},   {0x1EA0, 0x1EFF, 1, true},   {0x2160, 0x216F, 16, false},
    {0x24B6, 0x24CF, 26, false}, {0xFF21, 0xFF3A, 32, false}, {0x10400, 0x10427, 40, false},
};

template <char32_t (*map)(char32_t)>
std::string mapped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    bool valid = true;
    const char32_t c = decode_utf8(text, at, &valid);
    if (valid)
      append_utf8(out, map(c));
    else
      out.append(text.substr(from, at - from));
  }
  return out;
}

}  // namespace

char32_t decode_utf8(std::string_view text, size_t& at, bool* valid) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char lead = byte(at++);
  if (valid) *valid = true;
  if (lead < 0x80) return lead;
  const size_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  char32_t c = lead & (0x3Fu >> more);
  bool good = lead >= 0xC2 && lead <= 0xF4 && text.size() - at >= more;
  for (size_t k = 0; good && k < more; ++k) {
    good = (byte(at + k) & 0xC0) == 0x80;
    c = c << 6 | (byte(at + k) & 0x3Fu);
  }
  constexpr char32_t least[] = {0, 0x80, 0x800, 0x10000};
  good = good && c >= least[more] && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
  if (good) {
    at += more;
    return c;
  }
  if (valid) *valid = false;
  return 0xFFFD;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t v) { out += static_cast<char>(static_cast<unsigned char>(v)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

char32_t to_lower(char32_t c) {
  if (c == 0x1E9E) return 0xDF;
  for (const CaseRange& r : ranges) {
    if (c < r.first || c > r.last) continue;
    if (r.alternates) return (c - r.first) % 2 == 0 ? c + 1 : c;
    return static_cast<char32_t>(static_cast<int32_t>(c) + r.distance);
  }
  return c;
}

char32_t to_upper(char32_t c) {
  if (c == 0xB5) return 0x39C;   // the micro sign
  if (c == 0x3C2) return 0x3A3;  // sigma at the end of a word
  if (c == 0x131) return 'I';
  if (c == 0x17F) return 'S';
  for (const CaseRange& r : ranges) {
    if (r.alternates) {
      if (c >= r.first && c <= r.last) return (c - r.first) % 2 == 1 ? c - 1 : c;
      continue;
    }
    const int32_t upper = static_cast<int32_t>(c) - r.distance;
    if (upper >= static_cast<int32_t>(r.first) && upper <= static_cast<int32_t>(r.last))
      return static_cast<char32_t>(upper);
  }
  return c;
}

std::string to_lower(std::string_view text) { return mapped<&to_lower>(text); }
std::string to_upper(std::string_view text) { return mapped<&to_upper>(text); }

}  // namespace sinter
