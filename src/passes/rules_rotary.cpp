// Rotary embeddings as exporters spell them: x * cos + (x with its halves changed round, one of them negative) * sin.

#include "ops/movement.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule halves_rule = {"rotation by halves"};

// [0, half) or [half, 2 half) of the last axis; a value with one element there is for both.
ValueId half_of(Site& site, ValueId v, int64_t begin, int64_t half) {
  if (site.type(v).shape->back() == Dim(1)) return v;
  GraphBuilder& b = site.rw.build;
  return b.op("Slice", {v, b.integers({begin}), b.integers({begin + half}), b.integers({-1})});
}

// The value whose halves [a, b] this makes [-b, a], and those.
struct Turned {
  ValueId x = no_id, first = no_id, second = no_id;
  int64_t half = 0;
};
std::optional<Turned> turned(const Site& site, ValueId v) {
  const auto concat = site.def(v, "Concat");
  if (!concat || !site.single_use(v) || site.graph.nodes[*concat].inputs.size() != 2 || !site.type(v).is_plain())
    return std::nullopt;
  const auto rank = static_cast<int64_t>(site.type(v).shape->size());
  const int64_t axis = site.graph.nodes[*concat].attrs.as<ConcatAttrs>().axis;
  const auto neg = site.def(site.in(*concat, 0), "Neg");
  if (!neg || rank == 0 || (axis != rank - 1 && axis != -1)) return std::nullopt;
  Turned out{no_id, site.in(*concat, 1), site.in(*neg, 0), 0};
  const auto last = static_cast<size_t>(rank - 1);
  const auto a = stretch_of(site, out.first, last), b = stretch_of(site, out.second, last);
  if (!a || !b || a->whole != b->whole || a->begin != 0 || b->begin != a->end || b->end != 2 * a->end ||
      !(site.type(a->whole).shape->back() == Dim(b->end)))
    return std::nullopt;
  out.x = a->whole;
  out.half = a->end;
  return out;
}

// Each half by itself: no copy of x with its halves changed round is made.
bool by_halves(Site& site, NodeId n) {
  for (size_t i : {size_t{0}, size_t{1}}) {
    const auto kept = site.def(site.in(n, i), "Mul"), moved = site.def(site.in(n, 1 - i), "Mul");
    if (!kept || !moved || !site.single_use(site.in(n, i)) || !site.single_use(site.in(n, 1 - i))) continue;
    for (size_t j : {size_t{0}, size_t{1}}) {
      const auto t = turned(site, site.in(*moved, j));
      if (!t) continue;
      for (size_t k : {size_t{0}, size_t{1}}) {
        const ValueId cosine = site.in(*kept, 1 - k), sine = site.in(*moved, 1 - j);
        const auto fits = [&](ValueId v) {
          const Type& type = site.type(v);
          return type.is_plain() && !type.shape->empty() &&
                 (type.shape->back() == Dim(1) || type.shape->back() == Dim(2 * t->half));
        };
        if (site.in(*kept, k) != t->x || !fits(cosine) || !fits(sine)) continue;
        site.at({*kept, *moved, n});
        GraphBuilder& b = site.rw.build;
        const auto product = [&](ValueId x, ValueId table, int64_t begin) {
          return b.op("Mul", {x, half_of(site, table, begin, t->half)});
        };
        const ValueId real = b.op("Sub", {product(t->first, cosine, 0), product(t->second, sine, 0)});
        const ValueId imaginary = b.op("Add", {product(t->second, cosine, t->half), product(t->first, sine, t->half)});
        const ValueId made = b.op("Concat", ConcatAttrs{-1}, {real, imaginary});
        return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, halves_rule);
      }
    }
  }
  return false;
}

constexpr NodeRule rules[] = {{"Add", by_halves}};

}  // namespace

std::span<const NodeRule> rotary_rules() { return rules; }

}  // namespace sinter
