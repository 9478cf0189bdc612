// Ways to damage a file: bytes, cuts, protobuf fields with lengths kept consistent, and the plan text of an engine.
// All are functions of a random generator alone, so a seed and a number name a copy.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace sinter::mutations {

using Random = std::mt19937_64;

inline size_t below(Random& random, size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); }

inline int64_t interesting(Random& random) {
  static constexpr int64_t values[] = {0,
                                       1,
                                       2,
                                       -1,
                                       3,
                                       7,
                                       8,
                                       16,
                                       64,
                                       255,
                                       256,
                                       65535,
                                       1 << 20,
                                       INT32_MAX,
                                       INT32_MIN,
                                       int64_t{1} << 32,
                                       int64_t{1} << 40,
                                       int64_t{1} << 62,
                                       INT64_MAX,
                                       INT64_MIN,
                                       -2,
                                       100};
  return values[below(random, std::size(values))];
}

// ---- bytes ----

inline void damage_bytes(std::string& bytes, Random& random) {
  const size_t count = 1 + below(random, 4);
  const size_t kinds = below(random, 3) == 0 ? 5 : 3;  // mostly the length stays, so that damage reaches deeper
  for (size_t i = 0; i < count && !bytes.empty(); ++i) {
    const size_t at = below(random, bytes.size());
    switch (below(random, kinds)) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(random, 8))); break;
      case 1: bytes[at] = static_cast<char>(random()); break;
      case 3: bytes.erase(at, 1 + below(random, 8)); break;
      case 4: bytes.insert(at, bytes.substr(below(random, bytes.size()), 1 + below(random, 16))); break;
      default: {
        const int64_t v = interesting(random);
        const size_t n = std::min<size_t>(bytes.size() - at, size_t{1} << below(random, 4));
        std::memcpy(bytes.data() + at, &v, std::min<size_t>(n, sizeof v));
      }
    }
  }
}

inline void cut(std::string& bytes, Random& random) { bytes.resize(below(random, bytes.size())); }

// ---- protobuf fields ----

struct Field {
  uint32_t number = 0, wire = 0;
  uint64_t value = 0;           // varint
  std::string payload;          // of fixed and delimited fields
  std::vector<Field> children;  // of what reads as a message
  bool is_message = false;
};

inline bool take_varint(std::string_view& in, uint64_t& out) {
  out = 0;
  for (int shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(in[0]);
    in.remove_prefix(1);
    out |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

inline bool parse_fields(std::string_view in, std::vector<Field>& out, int depth) {
  while (!in.empty()) {
    uint64_t tag, length;
    if (!take_varint(in, tag) || tag >> 3 == 0 || tag >> 3 > 100) return false;
    Field f;
    f.number = static_cast<uint32_t>(tag >> 3);
    f.wire = static_cast<uint32_t>(tag & 7);
    if (f.wire == 0) {
      if (!take_varint(in, f.value)) return false;
    } else if (f.wire == 1 || f.wire == 5) {
      const size_t n = f.wire == 1 ? 8 : 4;
      if (in.size() < n) return false;
      f.payload = in.substr(0, n);
      in.remove_prefix(n);
    } else if (f.wire == 2) {
      if (!take_varint(in, length) || length > in.size()) return false;
      f.payload = in.substr(0, length);
      in.remove_prefix(length);
      // Text may read as a message; written back unchanged it is the same text.
      f.is_message = depth < 24 && f.payload.size() < (8u << 20) && parse_fields(f.payload, f.children, depth + 1) &&
                     !f.children.empty();
    } else {
      return false;
    }
    out.push_back(std::move(f));
  }
  return true;
}

inline void put_varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}

inline std::string write_fields(const std::vector<Field>& fields) {
  std::string out;
  for (const Field& f : fields) {
    put_varint(out, uint64_t{f.number} << 3 | f.wire);
    if (f.wire == 0) {
      put_varint(out, f.value);
    } else {
      const std::string payload = f.is_message ? write_fields(f.children) : f.payload;
      if (f.wire == 2) put_varint(out, payload.size());
      out += payload;
    }
  }
  return out;
}

inline void collect_lists(std::vector<Field>& list, std::vector<std::vector<Field>*>& out) {
  out.push_back(&list);
  for (Field& f : list)
    if (f.is_message) collect_lists(f.children, out);
}

// Changes, copies, moves or removes a few fields anywhere in the tree. False when the bytes are no message.
inline bool damage_fields(std::string& bytes, Random& random) {
  std::vector<Field> root;
  if (!parse_fields(bytes, root, 0)) return false;
  const size_t count = 1 + below(random, 2);
  for (size_t i = 0; i < count; ++i) {
    std::vector<std::vector<Field>*> lists;
    collect_lists(root, lists);
    std::vector<Field>& list = *lists[below(random, lists.size())];
    if (list.empty()) continue;
    const size_t at = below(random, list.size());
    Field& f = list[at];
    switch (below(random, 8)) {
      case 0: list.erase(list.begin() + static_cast<ptrdiff_t>(at)); break;
      case 1: list.insert(list.begin() + static_cast<ptrdiff_t>(at), Field(f)); break;
      case 2: std::swap(f, list[below(random, list.size())]); break;
      case 3: f.number = 1 + static_cast<uint32_t>(below(random, 26)); break;
      case 4: {  // a field of another message of the same kind of place
        const std::vector<Field>& other = *lists[below(random, lists.size())];
        if (!other.empty()) {
          const Field copy = other[below(random, other.size())];
          list[at] = copy;
        }
        break;
      }
      default:
        if (f.wire == 0) {
          f.value = static_cast<uint64_t>(interesting(random));
        } else if (!f.is_message && !f.payload.empty() && f.wire == 2 && f.payload.size() % 8 == 0 &&
                   below(random, 2) == 0) {
          const int64_t v = interesting(random);  // an element of raw 64-bit data: shapes, axes, pads
          std::memcpy(f.payload.data() + 8 * below(random, f.payload.size() / 8), &v, sizeof v);
        } else if (!f.is_message && !f.payload.empty()) {
          damage_bytes(f.payload, random);
          if (f.wire != 2) f.payload.resize(f.wire == 1 ? 8 : 4);
        }
    }
  }
  bytes = write_fields(root);
  return true;
}

// ---- plan text ----

inline bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

struct Token {
  size_t begin, end;
  bool number;
};

inline std::vector<Token> tokens_of(const std::string& text) {
  std::vector<Token> out;
  for (size_t i = 0; i < text.size();) {
    if (!is_word(text[i])) {
      ++i;
      continue;
    }
    Token t{i, i, true};
    while (i < text.size() && is_word(text[i]))
      t.number = t.number && ((text[i] >= '0' && text[i] <= '9') || text[i] == '-'), ++i;
    t.end = i;
    out.push_back(t);
  }
  return out;
}

inline void damage_text(std::string& text, Random& random) {
  const size_t count = 1 + below(random, 2);
  for (size_t i = 0; i < count; ++i) {
    const std::vector<Token> tokens = tokens_of(text);
    if (tokens.empty()) return;
    std::vector<Token> numbers;
    for (const Token& t : tokens)
      if (t.number) numbers.push_back(t);
    const auto replace = [&](const Token& t, const std::string& by) { text.replace(t.begin, t.end - t.begin, by); };
    const auto word = [&](const Token& t) { return text.substr(t.begin, t.end - t.begin); };
    const size_t kind = below(random, 8);
    if (kind <= 4 && !numbers.empty()) {
      const Token& t = numbers[below(random, numbers.size())];
      if (kind == 0)
        replace(t, std::to_string(interesting(random)));
      else if (kind == 1)
        replace(t, word(numbers[below(random, numbers.size())]));
      else
        replace(t, std::to_string(static_cast<int64_t>(std::strtoll(word(t).c_str(), nullptr, 10) / 2 * 2 +
                                                       static_cast<int64_t>(below(random, 5)) - 2)));
    } else if (kind == 5) {
      const Token& t = tokens[below(random, tokens.size())];
      replace(t, word(tokens[below(random, tokens.size())]));
    } else {  // a whole line
      std::vector<std::pair<size_t, size_t>> lines;
      for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
        lines.emplace_back(at, end - at);
        at = end;
      }
      const auto [at, size] = lines[below(random, lines.size())];
      const auto [from, length] = lines[below(random, lines.size())];
      const std::string other = text.substr(from, length);
      if (kind == 6)
        text.erase(at, size);
      else
        text.insert(at, other);
    }
  }
}

// ---- engine files: header of 56 bytes (sections at 12, length at 16), then 40 a section (offset at 8, length at 16)
// ----

template <typename T>
T load(const std::string& bytes, size_t at) {
  T v{};
  if (at + sizeof v <= bytes.size()) std::memcpy(&v, bytes.data() + at, sizeof v);
  return v;
}

template <typename T>
void store(std::string& bytes, size_t at, T v) {
  if (at + sizeof v <= bytes.size()) std::memcpy(bytes.data() + at, &v, sizeof v);
}

// Damages the plan text or, rarely, the weights and lays the sections out again; hashes are left to rehash_engine.
inline void damage_engine(std::string& bytes, Random& random) {
  constexpr size_t header = 56, entry = 40;
  const auto sections = load<uint32_t>(bytes, 12);
  if (sections == 0 || bytes.size() < header + sections * entry) return;
  std::string out = bytes.substr(0, header + sections * entry);
  for (uint32_t s = 0; s < sections; ++s) {
    const size_t at = header + s * entry;
    std::string part = bytes.substr(load<uint64_t>(bytes, at + 8), load<uint64_t>(bytes, at + 16));
    const auto kind = load<uint32_t>(bytes, at);
    if (kind == 1 && below(random, 16) != 0) damage_text(part, random);
    if (kind == 1 && below(random, 16) == 0) damage_bytes(part, random);
    if (kind == 2 && below(random, 8) == 0) damage_bytes(part, random);
    if (kind == 2) out.resize((out.size() + 63) / 64 * 64, '\0');
    store<uint64_t>(out, at + 8, out.size());
    store<uint64_t>(out, at + 16, part.size());
    out += part;
  }
  bytes = std::move(out);
}

}  // namespace sinter::mutations
