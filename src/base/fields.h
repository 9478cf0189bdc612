// Reflection for plain structs: a list of named, typed fields from which printing, parsing, comparing, hashing and
// saving follow.
//
// A struct S lists its fields once:
//   struct PadAttrs { PadMode mode = PadMode::constant; };
//   inline const Fields& fields_of(const PadAttrs*) { static const Fields f =
//   describe<PadAttrs>({field<&PadAttrs::mode>("mode")}); return f; }
// Supported member types: bool, int64_t, double, std::string, vectors of the last three, and enums that have
// `std::span<const char* const> enum_names(E)` found by argument-dependent lookup (members numbered from 0).
// Attrs is an immutable, shared, type-erased struct of that kind. Text omits fields equal to the default.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sinter {

class Scanner;

enum class FieldKind : uint8_t { boolean, i64, f64, string, i64s, f64s, strings, enumeration };

struct Field {
  const char* name;
  FieldKind kind;
  void* (*member)(void* object);
  std::span<const char* const> names;  // of an enumeration
};

struct Fields {
  std::vector<Field> list;
  std::shared_ptr<void> (*create)();
  std::shared_ptr<void> (*copy)(const void*);
};

namespace detail {
template <typename T>
struct MemberOf;
template <typename S, typename M>
struct MemberOf<M S::*> {
  using Struct = S;
  using Member = M;
};
template <typename M>
constexpr FieldKind kind_of() {
  if constexpr (std::is_same_v<M, bool>)
    return FieldKind::boolean;
  else if constexpr (std::is_same_v<M, int64_t>)
    return FieldKind::i64;
  else if constexpr (std::is_same_v<M, double>)
    return FieldKind::f64;
  else if constexpr (std::is_same_v<M, std::string>)
    return FieldKind::string;
  else if constexpr (std::is_same_v<M, std::vector<int64_t>>)
    return FieldKind::i64s;
  else if constexpr (std::is_same_v<M, std::vector<double>>)
    return FieldKind::f64s;
  else if constexpr (std::is_same_v<M, std::vector<std::string>>)
    return FieldKind::strings;
  else {
    static_assert(std::is_enum_v<M> && sizeof(M) == 1, "field type without reflection");
    return FieldKind::enumeration;
  }
}
}  // namespace detail

template <auto Member>
Field field(const char* name) {
  using S = typename detail::MemberOf<decltype(Member)>::Struct;
  using M = typename detail::MemberOf<decltype(Member)>::Member;
  Field f{name, detail::kind_of<M>(), [](void* o) -> void* { return &(static_cast<S*>(o)->*Member); }, {}};
  if constexpr (std::is_enum_v<M>) f.names = enum_names(M{});
  return f;
}

template <typename S>
Fields describe(std::vector<Field> list) {
  return Fields{std::move(list), []() -> std::shared_ptr<void> { return std::make_shared<S>(); },
                [](const void* s) -> std::shared_ptr<void> { return std::make_shared<S>(*static_cast<const S*>(s)); }};
}

// The fields of attribute struct S, for the row of its operator.
template <typename S>
const Fields* fields() {
  return &fields_of(static_cast<const S*>(nullptr));
}

class Attrs {
 public:
  Attrs() = default;
  template <typename S>
  requires(!std::is_same_v<std::remove_cvref_t<S>, Attrs>) Attrs(const S& value)
      : fields_(&fields_of(&value)), object_(std::make_shared<S>(value)) {}
  // A default-constructed struct of the given fields (null: no attributes).
  static Attrs defaults(const Fields* fields);

  bool empty() const { return fields_ == nullptr; }
  const Fields* fields() const { return fields_; }
  const void* object() const { return object_.get(); }
  // Precondition: this holds an S.
  template <typename S>
  const S& as() const {
    return *static_cast<const S*>(object_.get());
  }
  bool operator==(const Attrs& other) const;
  uint64_t hash() const;

  // "{name=value, ...}", or "" when nothing differs from the defaults (all: every field).
  std::string to_text(bool all = false) const;
  // Parses to_text's form at the scanner (an absent brace means all defaults). Throws Error(Code::invalid_argument).
  static Attrs parse(const Fields* fields, Scanner& scanner);

 private:
  const Fields* fields_ = nullptr;
  std::shared_ptr<const void> object_;
};

}  // namespace sinter
