// Plan: the compiled network as slots and steps; Target: a plan with everything it needs to run on one kind of machine.
//
// A slot is a place for one value. Arena slots store which slots they lie above; their address is the largest end of
// those, evaluated when shapes are bound. A step runs one problem with one kernel, or controls bodies (branch, loop).
// Steps that define symbols end a segment: what depends on the symbols is sized, placed and bound after them. Nothing
// derivable is stored: segments, sizes, offsets and run-time checks are recomputed and verified at load.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/kernel.h"

namespace sinter {

enum class SlotKind : uint8_t {
  arena,    // memory of the context, placed by `above`
  binding,  // the caller's buffer: Target::bindings[of]
  weight,   // Target::weights[of]
  // The bytes of slot `of` under another type; or a part of its elements, from element `at` on: with a pitch, some
  // columns of each of its rows; without one, elements that lie one after the other. A step may make its result over an
  // operand that nobody reads afterwards: it writes a view of it.
  view,
  boxed,      // a Box of the context: sequences, optionals, strings, unknown ranks, extents found by running
  known,      // contents (numbers or Dims) written when shapes are bound
  parameter,  // of a body: the value that the step passes
};

struct Slot {
  Type type;
  Layout layout;
  SlotKind kind = SlotKind::arena;
  uint32_t of = 0;
  Contents contents;
  std::vector<uint32_t> above;
  std::optional<Dim> at = {};  // of a part: elements of its base before it

  // A view of some elements of its base. Steps may write parts, which together make up their base.
  bool is_part() const { return at.has_value(); }
  std::vector<uint32_t> sources = {};  // of a view: nodes of the user's model, as steps have them
};

// Nonnegative `value` makes the choice possible.
struct Guard {
  Dim value;
};

struct Choice {
  std::vector<Guard> when;
  uint32_t problem = 0;  // Target::problems
  uint32_t kernel = 0;   // Target::kernels
  Config config;
  std::vector<SymbolId> symbols;  // problem symbol → plan symbol
};

struct Step {
  enum class Kind : uint8_t { kernel, control } kind = Kind::kernel;
  std::vector<Choice> choices;  // kernel: the first whose guards hold
  const Op* op = nullptr;       // control: If or Loop
  Attrs attrs;
  std::vector<uint32_t> operands;  // slots; no_slot for absent ones
  std::vector<uint32_t> results;
  std::vector<uint32_t> bodies;   // control: Plan::bodies
  std::vector<SymbolId> defines;  // symbols known after it (host-decided ones: just before it)
  std::vector<uint32_t> sources;  // nodes of the user's model
};

constexpr uint32_t no_slot = UINT32_MAX;

struct Plan {
  std::vector<Slot> slots;
  std::vector<uint32_t> parameters, results;  // slots
  std::vector<Step> steps;
  std::vector<Plan> bodies;
};

struct Binding {
  std::string name;
  Type type;
  bool is_output = false;
};

// Bounds of one named dimension: what the engine accepts, and where it is fastest.
struct Profile {
  SymbolId symbol;
  int64_t low, best, high;
};

struct Weight {
  Type type;
  Layout layout;
  Tensor bytes;  // packed: u8[n]; filled by the init plan or mapped from the engine file
};

struct SourceNode {
  std::string name, op_type;
};

struct Target {
  DeviceSpec needs;  // device, level and features that running takes
  SymbolTable symbols;
  std::vector<std::string> kernels;  // by name: "cpu/contract_f32_avx512"
  std::vector<Problem> problems;
  Plan main;
  std::vector<Binding> bindings;  // inputs in order, then outputs in order
  std::vector<Profile> profiles;
  std::vector<Weight> weights;
  std::vector<SourceNode> sources;
};

}  // namespace sinter
