// The passes of the compiler. Each is a free function that returns whether it changed the module; what it needs and
// leaves is said beside it. Timing, dumps, verification and journal belong to the PassRunner (builder/pipeline.h).
#pragma once

#include <functional>

#include "ir/rewriter.h"

namespace sinter {

// How contractions of f32 may round their operands; the coarsest that is allowed is what kernels may do. The lower two
// include TF32.
struct PassOptions {
  bool allow_tf32 = true;  // to 10 bits of mantissa or better; else strict: as fp32 rounds, or better
  bool allow_bf16 = false;
  bool allow_fp16 = false;
};

// Whether the device has a row faster than the definition for a closed graph of one node. `built`: by parameter,
// whether its value is known when the engine is built.
using FastRows = std::function<bool(const Module&, const Graph&, const std::vector<bool>& built)>;

struct PassContext {
  const PassOptions& options;
  Journal& journal;
  FastRows fast = {};  // empty: no row is
};

// needs: a verified module. leaves: no node whose result is known, none without effect; Squeeze, Unsqueeze and Flatten
// of known rank as Reshape; scales and biases folded into contractions.
bool simplify(Module&, const PassContext&);

// needs: simplified. leaves: no If with a known condition; what follows an If whose branches differ in rank, in its
// branches.
bool specialize(Module&, const PassContext&);

// needs: simplified. leaves: f32 where a fast row takes a node so and none takes it as f16 or bf16, and in what follows
// such nodes; inputs, outputs and parameters keep their types.
bool widen_halves(Module&, const PassContext&);

// needs: simplified. leaves: every quantized computation as DequantizeLinear → float operator → QuantizeLinear.
bool quantize(Module&, const PassContext&);

// needs: quantize has looked at the module. leaves: no contraction of two operands from bytes, the second known while
// building, whose bytes a fast row multiplies.
bool multiply_integers(Module&, const PassContext&);

// needs: quantize has looked at the module. leaves: QuantizeLinear and DequantizeLinear only where they are blocked or
// of elements that are no whole bytes; others as pointwise operators.
bool spell_quantization(Module&, const PassContext&);

// needs: simplified. leaves: each contraction's `numerics` says how it may multiply.
bool assign_precision(Module&, const PassContext&);

// needs: contractions say how they multiply. leaves: queries, keys and values of one operand as parts of one product,
// and Transposes at the attention's side of the products around it.
bool merge_projections(Module&, const PassContext&);

// needs: simplified. leaves: every node but If and Loop is a Fragment with one flat body of core operators.
bool group(Module&, const PassContext&);

}  // namespace sinter
