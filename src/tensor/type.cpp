#include "tensor/type.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"
#include "base/scanner.h"
#include "tensor/symbols.h"

namespace sinter {

Type Type::of(const Tensor& tensor) {
  Shape shape;
  for (int64_t d : tensor.dims()) shape.emplace_back(d);
  return Type::tensor(tensor.dtype(), std::move(shape));
}

bool Type::is_static() const { return is_plain() && constant_dims(*shape).has_value(); }

bool Type::operator==(const Type& other) const {
  if (kind != other.kind) return false;
  switch (kind) {
    case Kind::invalid: return true;
    case Kind::tensor: return dtype == other.dtype && shape == other.shape;
    case Kind::sequence:
    case Kind::optional: return *element == *other.element;
    case Kind::map: return dtype == other.dtype && *element == *other.element;
  }
  return false;
}

Dim element_count(const Shape& shape) {
  Dim n = 1;
  for (const Dim& d : shape) n = n * d;
  return n;
}

std::optional<Dims> constant_dims(const Shape& shape) {
  Dims out;
  for (const Dim& d : shape) {
    if (!d.is_constant()) return std::nullopt;
    out.push_back(d.constant());
  }
  return out;
}

Dims evaluate(const Shape& shape, std::span<const int64_t> symbols) {
  Dims out;
  for (const Dim& d : shape) {
    out.push_back(d.evaluate(symbols));
    if (out.back() < 0) throw Error(Code::invalid_argument, fmt::format("negative extent {}", out.back()));
  }
  element_count(out);
  return out;
}

Dims evaluate_or_zero(const Shape& shape, std::span<const int64_t> symbols) {
  Dims out;
  for (const Dim& d : shape) {
    std::vector<SymbolId> ids;
    d.collect_symbols(ids);
    const bool bound = std::all_of(ids.begin(), ids.end(), [&](SymbolId id) { return symbols[id] >= 0; });
    out.push_back(bound ? std::max<int64_t>(0, d.evaluate(symbols)) : 0);
  }
  return out;
}

double elements_at(const Type& type, std::span<const int64_t> symbols) {
  double n = 1;
  for (const Dim& d : *type.shape) n *= static_cast<double>(std::max<int64_t>(1, d.evaluate(symbols)));
  return n;
}

Shape rename(const Shape& shape, std::span<const SymbolId> map) {
  Shape out;
  for (const Dim& d : shape) out.push_back(d.rename(map));
  return out;
}

Type rename(const Type& type, std::span<const SymbolId> map) {
  Type out = type;
  if (out.shape) out.shape = rename(*out.shape, map);
  if (out.element) out.element = std::make_shared<const Type>(rename(*out.element, map));
  return out;
}

void collect_symbols(const Type& type, std::vector<SymbolId>& out) {
  if (type.shape)
    for (const Dim& d : *type.shape) d.collect_symbols(out);
  if (type.element) collect_symbols(*type.element, out);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

std::string to_text(const Type& type, const SymbolTable& symbols) {
  switch (type.kind) {
    case Type::Kind::invalid: return "invalid";
    case Type::Kind::sequence: return fmt::format("seq({})", to_text(*type.element, symbols));
    case Type::Kind::optional: return fmt::format("optional({})", to_text(*type.element, symbols));
    case Type::Kind::map: return fmt::format("map({}, {})", dtype_name(type.dtype), dtype_name(type.element->dtype));
    case Type::Kind::tensor: break;
  }
  std::string out = dtype_name(type.dtype);
  if (!type.shape) return out + "[..]";
  out += '[';
  for (size_t i = 0; i < type.shape->size(); ++i) {
    if (i) out += ", ";
    out += to_string((*type.shape)[i], symbols);
  }
  return out + ']';
}

Dim parse_dim(Scanner& scanner, SymbolTable& symbols, bool add_symbols) {
  size_t position = scanner.position();
  const Dim dim = parse_dim(scanner.text(), position, [&](std::string_view name) -> SymbolId {
    if (const auto id = symbols.find(name)) return *id;
    if (!add_symbols) throw Error(Code::invalid_argument, fmt::format("unknown symbol '{}'", name));
    return symbols.add({.name = std::string(name), .bound = Symbol::Bound::input});
  });
  scanner.seek(position);
  return dim;
}

namespace {

constexpr int max_nesting = 32;  // of sequences and optionals

DType parse_dtype(Scanner& scanner) {
  const std::string_view name = scanner.identifier();
  const auto dtype = dtype_from_name(name);
  if (!dtype) scanner.fail(fmt::format("'{}' is no element type", name));
  return *dtype;
}

Type parse_map(Scanner& scanner) {
  scanner.expect("(");
  const DType key = parse_dtype(scanner);
  scanner.expect(",");
  const DType value = parse_dtype(scanner);
  scanner.expect(")");
  if (!is_map_key(key) || !is_map_value(value))
    scanner.fail(fmt::format("there are no maps from {} to {}", dtype_name(key), dtype_name(value)));
  return Type::map(key, value);
}

Type parse_nested(Scanner& scanner, SymbolTable& symbols, bool add_symbols, int depth) {
  if (depth > max_nesting) scanner.fail("types nested too deep");
  if (scanner.accept("invalid")) return {};
  const bool sequence = scanner.accept("seq");
  if (sequence || scanner.accept("optional")) {
    scanner.expect("(");
    Type element = parse_nested(scanner, symbols, add_symbols, depth + 1);
    scanner.expect(")");
    return sequence ? Type::sequence(std::move(element)) : Type::optional(std::move(element));
  }
  if (scanner.accept("map")) return parse_map(scanner);
  const DType dtype = parse_dtype(scanner);
  scanner.expect("[");
  if (scanner.accept("..")) {
    scanner.expect("]");
    return Type::tensor(dtype, std::nullopt);
  }
  Shape shape;
  if (scanner.accept("]")) return Type::tensor(dtype, std::move(shape));
  do {
    shape.push_back(parse_dim(scanner, symbols, add_symbols));
  } while (scanner.accept(","));
  scanner.expect("]");
  return Type::tensor(dtype, std::move(shape));
}

}  // namespace

Type parse_type(Scanner& scanner, SymbolTable& symbols, bool add_symbols) {
  return parse_nested(scanner, symbols, add_symbols, 0);
}

}  // namespace sinter
