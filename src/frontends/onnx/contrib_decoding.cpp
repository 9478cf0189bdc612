// Entries of domain com.microsoft for what decoders do with tokens: BifurcationDetector and DynamicTimeWarping.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/selection.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

void import_warping(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 2);
  if (rank > 3) c.fail(fmt::format("the operand has rank {}, it must be 2 or 3", rank));
  c.out(0, b.op("DynamicTimeWarping", {rank == 3 ? wiring::squeeze(b, c.in(0), {0}) : c.in(0)}));
}

// Predicted tokens are taken as long as they are those of the source behind the last match, and one more.
ValueId with_predicted(NodeContext& c, ValueId source, ValueId tokens) {
  GraphBuilder& b = c.b;
  const ValueId from = number(c, 2), zero = whole(b, 0);
  const ValueId known = sub(b, wiring::extent(b, source, 0), from), predicted = c.in(3);
  const ValueId compared = b.op("Max", {b.op("Min", {known, wiring::extent(b, predicted, 0)}), zero});
  const auto run = [&](ValueId x, ValueId start) {
    return wiring::gather(b, x, add(b, start, wiring::iota(b, compared)), 0);
  };
  const ValueId same = cast(b, b.op("Equal", {run(source, from), run(predicted, zero)}), DType::i64);
  const ValueId alike = wiring::reduce(b, "Sum", b.op("CumProd", CumulativeAttrs{}, {same, zero}), {0}, false);
  const ValueId taken = wiring::gather(b, predicted, wiring::iota(b, add(b, alike, whole(b, 1))), 0);
  return wiring::concat(b, {tokens, taken}, 0);
}

void import_bifurcation(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t least = c.integer("min_ngram_size", 1), most = c.integer("max_ngram_size", 3);
  if (least < 1 || most < least || most > 64)
    c.fail(fmt::format("n-grams of {} to {} tokens, 1 to 64 are possible", least, most));
  if (rank_of(c, 0) != 1 || rank_of(c, 1) != 1) c.fail("src_tokens and cur_tokens must have rank 1");
  const ValueId source = cast(b, c.in(0), DType::i64);
  ValueId tokens = cast(b, c.in(1), DType::i64);
  if (c.has(3)) tokens = with_predicted(c, source, tokens);
  c.out(0, tokens);
  // The first length at which the last tokens stand in the source once; longer ones are tried while they stand there
  // more than once.
  const ValueId zero = whole(b, 0), one = whole(b, 1), length = wiring::extent(b, tokens, 0);
  const ValueId size = wiring::extent(b, source, 0);
  ValueId found = whole(b, -1), open = b.scalar(DType::boolean, 1);
  for (int64_t n = least; n <= most; ++n) {
    const ValueId windows = b.op("Max", {sub(b, size, whole(b, n - 1)), zero});
    const ValueId start = wiring::iota(b, windows);
    ValueId match = no_id;
    for (int64_t k = 0; k < n; ++k) {
      const ValueId at = b.op("Max", {add(b, length, whole(b, k - n)), zero});
      const ValueId token = wiring::gather(b, tokens, at, 0);
      const ValueId same = b.op("Equal", {wiring::gather(b, source, add(b, start, whole(b, k)), 0), token});
      match = match == no_id ? same : b.op("And", {match, same});
    }
    const ValueId hits = cast(b, match, DType::i64);
    const ValueId count = wiring::reduce(b, "Sum", hits, {0}, false);
    const ValueId place = wiring::reduce(b, "Sum", mul(b, hits, start), {0}, false);  // where there is one
    open = b.op("And", {open, b.op("LessOrEqual", {whole(b, n), length})});
    const ValueId single = b.op("And", {open, b.op("Equal", {count, one})});
    found = wiring::where(b, single, add(b, place, whole(b, n)), found);
    open = b.op("And", {open, b.op("Less", {one, count})});
  }
  c.out(1, wiring::reshape(b, found, b.shape(c.in(2))));
}

constexpr Entry table[] = {
    {"BifurcationDetector", 1, import_bifurcation, microsoft},
    {"DynamicTimeWarping", 1, import_warping, microsoft},
};

}  // namespace

std::span<const Entry> contrib_decoding_entries() { return table; }

}  // namespace sinter::onnx
