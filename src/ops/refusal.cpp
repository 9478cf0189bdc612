// Refuse.

#include "ops/refusal.h"

#include <fmt/core.h>

#include "base/scanner.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const RefuseAttrs*) {
  static const Fields f =
      describe<RefuseAttrs>({field<&RefuseAttrs::message>("message"), field<&RefuseAttrs::types>("types")});
  return f;
}

namespace {

void infer_refuse(InferContext& c) {
  const auto& types = c.attrs<RefuseAttrs>().types;
  if (types.size() != c.outputs()) c.fail(fmt::format("{} types for {} results", types.size(), c.outputs()));
  for (size_t o = 0; o < types.size(); ++o) {
    Scanner scanner(types[o]);
    SymbolTable own;
    Type type = parse_type(scanner, own, true);
    if (!scanner.at_end()) c.fail(fmt::format("'{}' is no type", types[o]));
    if (type.kind == Type::Kind::invalid) c.fail("a result has no type");
    if (type.has_shape())
      for (size_t k = 0; k < type.shape->size(); ++k)
        if (Dim& d = (*type.shape)[k]; !d.is_constant()) d = c.found_by_running(o, k, 0, std::nullopt);
    // Extents of elements may be anything.
    if (type.element && type.element->is_tensor()) {
      Type element = *type.element;
      element.shape.reset();
      type.element = std::make_shared<const Type>(std::move(element));
    }
    c.set(o, std::move(type));
  }
}

void eval_refuse(EvalContext& c) { throw Error(Code::fault, printable(c.attrs<RefuseAttrs>().message, 4096)); }

constexpr Op table[] = {
    {.name = "Refuse",
     .fields = fields<RefuseAttrs>,
     .inputs = {0, 0},
     .outputs = {0, Arity::any},
     .is = {.never_fold = true},
     .infer = infer_refuse,
     .eval = eval_refuse},
};

}  // namespace

std::span<const Op> refusal_ops() { return table; }

}  // namespace sinter
