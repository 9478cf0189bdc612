// Types of values: tensors over symbolic extents, sequences, maps, optionals, and the invalid type that a reported
// error leaves.
//
// A tensor whose rank is unknown has no shape; such values are boxed and meet reference rows only. The invalid type
// spreads through inference silently, so that only root causes are reported.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tensor/dim.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace sinter {

class SymbolTable;
class Scanner;

using Shape = std::vector<Dim>;

struct Type {
  enum class Kind : uint8_t { invalid, tensor, sequence, optional, map } kind = Kind::invalid;
  DType dtype = DType::f32;             // of a tensor, or of a map's keys
  std::optional<Shape> shape;           // of a tensor; none: unknown rank
  std::shared_ptr<const Type> element;  // of a sequence or optional; of a map, of one value: a tensor without axes

  static Type tensor(DType dtype, std::optional<Shape> shape) {
    return Type{Kind::tensor, dtype, std::move(shape), nullptr};
  }
  static Type sequence(Type element) {
    return Type{Kind::sequence, DType::f32, std::nullopt, std::make_shared<const Type>(std::move(element))};
  }
  static Type optional(Type element) {
    return Type{Kind::optional, DType::f32, std::nullopt, std::make_shared<const Type>(std::move(element))};
  }
  static Type map(DType key, DType value) {
    return Type{Kind::map, key, std::nullopt, std::make_shared<const Type>(tensor(value, Shape()))};
  }
  static Type of(const Tensor& tensor);
  bool is_tensor() const { return kind == Kind::tensor; }
  bool has_shape() const { return is_tensor() && shape.has_value(); }
  // A tensor of known rank and of a dtype with bytes: what a slot of an arena can hold.
  bool is_plain() const { return has_shape() && dtype != DType::string; }
  bool is_static() const;  // is_plain with constant extents
  bool operator==(const Type& other) const;
};

// What is known of a value's elements: nothing, everything, or small integers as Dims (the type gives the shape).
using Contents = std::variant<std::monostate, Tensor, std::vector<Dim>>;

Dim element_count(const Shape& shape);
std::optional<Dims> constant_dims(const Shape& shape);                        // none if any extent is symbolic
Dims evaluate(const Shape& shape, std::span<const int64_t> symbols);          // throws on negative extents and overflow
Dims evaluate_or_zero(const Shape& shape, std::span<const int64_t> symbols);  // 0 where a symbol is unbound (-1)
// Elements of a type of known rank at these symbol values, each extent at least 1; for cost models.
double elements_at(const Type& type, std::span<const int64_t> symbols);
Shape rename(const Shape& shape, std::span<const SymbolId> map);
Type rename(const Type& type, std::span<const SymbolId> map);
void collect_symbols(const Type& type, std::vector<SymbolId>& out);  // sorted, unique

// "f32[B, 64, H/2, W/2]", "f32[?]" is rank one with an unnamed symbol only when parsing is given none; unknown rank is
// "f32[..]", sequences "seq(f32[..])", maps "map(string, f32)", optionals "optional(...)", "invalid".
std::string to_text(const Type& type, const SymbolTable& symbols);
// Names not in the table are added to it when `add_symbols` (bound as inputs); otherwise an error.
Type parse_type(Scanner& scanner, SymbolTable& symbols, bool add_symbols);
Dim parse_dim(Scanner& scanner, SymbolTable& symbols, bool add_symbols);

}  // namespace sinter
