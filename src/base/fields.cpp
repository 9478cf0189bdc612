#include "base/fields.h"

#include <fmt/core.h>

#include <bit>

#include "base/hash.h"
#include "base/scanner.h"

namespace sinter {
namespace {

template <typename T>
const T& get(const Field& f, const void* object) {
  return *static_cast<const T*>(f.member(const_cast<void*>(object)));
}
template <typename T>
T& get(const Field& f, void* object) {
  return *static_cast<T*>(f.member(object));
}

std::string text_of(int64_t v) { return std::to_string(v); }
std::string text_of(double v) { return number_text(v); }
std::string text_of(const std::string& v) { return quoted(v); }

template <typename T>
std::string text_of(const std::vector<T>& list) {
  std::string out = "[";
  for (size_t i = 0; i < list.size(); ++i) {
    if (i) out += ", ";
    out += text_of(list[i]);
  }
  return out + "]";
}

std::string value_text(const Field& f, const void* object) {
  switch (f.kind) {
    case FieldKind::boolean: return get<bool>(f, object) ? "true" : "false";
    case FieldKind::i64: return text_of(get<int64_t>(f, object));
    case FieldKind::f64: return text_of(get<double>(f, object));
    case FieldKind::string: return text_of(get<std::string>(f, object));
    case FieldKind::i64s: return text_of(get<std::vector<int64_t>>(f, object));
    case FieldKind::f64s: return text_of(get<std::vector<double>>(f, object));
    case FieldKind::strings: return text_of(get<std::vector<std::string>>(f, object));
    case FieldKind::enumeration: return f.names[get<uint8_t>(f, object)];
  }
  return "";
}

void read(Scanner& s, int64_t& v) { v = s.integer(); }
void read(Scanner& s, double& v) { v = s.number(); }
void read(Scanner& s, std::string& v) { v = s.string(); }

template <typename T>
void read(Scanner& s, std::vector<T>& list) {
  s.expect("[");
  list.clear();
  if (s.accept("]")) return;
  do {
    T v{};
    read(s, v);
    list.push_back(std::move(v));
  } while (s.accept(","));
  s.expect("]");
}

void read_value(Scanner& s, const Field& f, void* object) {
  switch (f.kind) {
    case FieldKind::boolean:
      get<bool>(f, object) = s.accept("true");
      if (!get<bool>(f, object)) s.expect("false");
      return;
    case FieldKind::i64: return read(s, get<int64_t>(f, object));
    case FieldKind::f64: return read(s, get<double>(f, object));
    case FieldKind::string: return read(s, get<std::string>(f, object));
    case FieldKind::i64s: return read(s, get<std::vector<int64_t>>(f, object));
    case FieldKind::f64s: return read(s, get<std::vector<double>>(f, object));
    case FieldKind::strings: return read(s, get<std::vector<std::string>>(f, object));
    case FieldKind::enumeration: {
      const std::string_view name = s.identifier();
      for (size_t i = 0; i < f.names.size(); ++i)
        if (name == f.names[i]) {
          get<uint8_t>(f, object) = static_cast<uint8_t>(i);
          return;
        }
      s.fail(fmt::format("'{}' is not a value of {}", name, f.name));
    }
  }
}

// Bits, not numbers, so that NaN equals itself and -0 differs from 0.
bool same(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<uint64_t>(a[i]) != std::bit_cast<uint64_t>(b[i])) return false;
  return true;
}

bool equal(const Field& f, const void* a, const void* b) {
  switch (f.kind) {
    case FieldKind::boolean: return get<bool>(f, a) == get<bool>(f, b);
    case FieldKind::i64: return get<int64_t>(f, a) == get<int64_t>(f, b);
    case FieldKind::f64: return same({get<double>(f, a)}, {get<double>(f, b)});
    case FieldKind::string: return get<std::string>(f, a) == get<std::string>(f, b);
    case FieldKind::i64s: return get<std::vector<int64_t>>(f, a) == get<std::vector<int64_t>>(f, b);
    case FieldKind::f64s: return same(get<std::vector<double>>(f, a), get<std::vector<double>>(f, b));
    case FieldKind::strings: return get<std::vector<std::string>>(f, a) == get<std::vector<std::string>>(f, b);
    case FieldKind::enumeration: return get<uint8_t>(f, a) == get<uint8_t>(f, b);
  }
  return false;
}

}  // namespace

Attrs Attrs::defaults(const Fields* fields) {
  Attrs a;
  a.fields_ = fields;
  if (fields) a.object_ = fields->create();
  return a;
}

bool Attrs::operator==(const Attrs& other) const {
  if (fields_ != other.fields_) return false;
  if (!fields_ || object_ == other.object_) return true;
  for (const Field& f : fields_->list)
    if (!equal(f, object_.get(), other.object_.get())) return false;
  return true;
}

uint64_t Attrs::hash() const { return fields_ ? hash64(to_text(true)) : 0; }

std::string Attrs::to_text(bool all) const {
  if (!fields_) return "";
  const std::shared_ptr<void> initial = fields_->create();
  std::string out;
  for (const Field& f : fields_->list) {
    if (!all && equal(f, object_.get(), initial.get())) continue;
    out += fmt::format("{}{}={}", out.empty() ? "{" : ", ", f.name, value_text(f, object_.get()));
  }
  return out.empty() ? out : out + "}";
}

Attrs Attrs::parse(const Fields* fields, Scanner& scanner) {
  Attrs a;
  a.fields_ = fields;
  std::shared_ptr<void> object = fields ? fields->create() : nullptr;
  a.object_ = object;
  if (!scanner.accept("{")) return a;
  if (scanner.accept("}")) return a;
  do {
    const std::string_view name = scanner.identifier();
    const Field* found = nullptr;
    if (fields)
      for (const Field& f : fields->list)
        if (name == f.name) found = &f;
    if (!found) scanner.fail(fmt::format("no attribute is named '{}'", name));
    scanner.expect("=");
    read_value(scanner, *found, object.get());
  } while (scanner.accept(","));
  scanner.expect("}");
  return a;
}

}  // namespace sinter
