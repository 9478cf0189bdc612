#include "ops/text.h"

#include <fmt/core.h>

#include "base/checked.h"
#include "base/scanner.h"

namespace sinter {
namespace {

// Integers as extents are read: u64 beyond 63 bits as negative numbers, which wrap back.
std::string element_text(const Tensor& t, int64_t i) {
  if (t.dtype() == DType::string) return quoted(t.strings()[static_cast<size_t>(i)]);
  if (is_float(t.dtype())) return number_text(t.get_real(i));
  return fmt::format("{}", t.get_integer(i));
}

}  // namespace

std::string literal_text(const Type& type, const Contents& contents, const SymbolTable& symbols, int64_t limit) {
  const auto* dims = std::get_if<std::vector<Dim>>(&contents);
  const auto* tensor = std::get_if<Tensor>(&contents);
  const bool list = type.has_shape() && type.shape->size() == 1 && type.dtype == DType::i64;
  const int64_t count = dims ? static_cast<int64_t>(dims->size()) : tensor->count();
  std::string out = list ? "[" : to_text(type, symbols) + "(";
  if (count > limit || (tensor && is_complex(tensor->dtype()))) return to_text(type, symbols) + "(...)";
  for (int64_t i = 0; i < count; ++i) {
    if (i) out += ", ";
    out += dims ? to_string((*dims)[static_cast<size_t>(i)], symbols) : element_text(*tensor, i);
  }
  return out + (list ? "]" : ")");
}

bool at_literal(Scanner& scanner) {
  const char c = scanner.peek();
  return c == '[' || (scanner.at_identifier() && c != '_');
}

Literal parse_literal(Scanner& scanner, SymbolTable& symbols, bool add_symbols) {
  Literal out;
  std::vector<Dim> dims;
  if (scanner.accept("[")) {
    if (!scanner.accept("]")) {
      do {
        dims.push_back(parse_dim(scanner, symbols, add_symbols));
      } while (scanner.accept(","));
      scanner.expect("]");
    }
    out.type = Type::tensor(DType::i64, Shape{Dim(static_cast<int64_t>(dims.size()))});
  } else {
    out.type = parse_type(scanner, symbols, add_symbols);
    if (!out.type.has_shape()) scanner.fail("a literal needs a shape");
    const auto shape = constant_dims(*out.type.shape);
    if (!shape) scanner.fail("a literal needs constant extents");
    const int64_t count = element_count(*shape);
    scanner.expect("(");
    const DType dtype = out.type.dtype;
    if (dtype == DType::string || is_float(dtype) || is_complex(dtype)) {
      if (count > static_cast<int64_t>(scanner.text().size())) scanner.fail("more elements than text");
      Tensor tensor(dtype, *shape);
      for (int64_t i = 0; i < count; ++i) {
        if (i) scanner.expect(",");
        if (dtype == DType::string)
          tensor.strings()[static_cast<size_t>(i)] = scanner.string();
        else
          tensor.set_real(i, scanner.number());
      }
      scanner.expect(")");
      out.contents = std::move(tensor);
      return out;
    }
    for (int64_t i = 0; i < count; ++i) {
      if (i) scanner.expect(",");
      dims.push_back(parse_dim(scanner, symbols, add_symbols));
    }
    scanner.expect(")");
  }
  for (const Dim& d : dims)
    if (!d.is_constant()) {
      out.contents = std::move(dims);
      return out;
    }
  Tensor tensor(out.type.dtype, *constant_dims(*out.type.shape));
  for (size_t i = 0; i < dims.size(); ++i) tensor.set_integer(static_cast<int64_t>(i), dims[i].constant());
  out.contents = std::move(tensor);
  return out;
}

std::string call_text(const Op& op, const Attrs& attrs, bool all) { return op.name + attrs.to_text(all); }

Call parse_call(Scanner& scanner) {
  const std::string_view name = scanner.identifier();
  const Op* op = find_op(name);
  if (!op) scanner.fail(fmt::format("no operator is named '{}'", name));
  return {op, Attrs::parse(op->fields ? op->fields() : nullptr, scanner)};
}

}  // namespace sinter
