#include "backend/cpu/kernels/recurrent_programs.h"

namespace sinter::cpu {
namespace {

class ProgramBuilder {
 public:
  explicit ProgramBuilder(const GateActivations& gates) : activations_(gates.activations), clip_(gates.clip) {}

  uint16_t load(Spread spread = Spread::full) {
    TileInstruction i{.kind = TileInstruction::Kind::load};
    i.index = static_cast<uint16_t>(program.operands.size());
    program.operands.push_back({DType::f32, spread});
    return add(i);
  }
  uint16_t constant(double value) {
    TileInstruction i{.kind = TileInstruction::Kind::constant};
    i.value = value;
    return add(i);
  }
  uint16_t op(ScalarOp op, uint16_t a, uint16_t b = 0, uint16_t c = 0) {
    TileInstruction i{.op = op};
    i.a = a;
    i.b = b;
    i.c = c;
    return add(i);
  }
  // Activation `number` of x, which is clipped first where it is the input of a gate.
  uint16_t activate(size_t number, uint16_t x, bool clipped = true) {
    if (clip_ > 0 && clipped) x = op(ScalarOp::min, op(ScalarOp::max, x, constant(-clip_)), constant(clip_));
    const ActivationText& a = activations_[number];
    const Scalar scalar = parse_scalar(a.text, nullptr);
    std::vector<uint16_t> at;
    for (const ScalarNode& node : scalar.nodes) {
      if (node.op == ScalarOp::input)
        at.push_back(node.index == 0 ? x : constant(node.index == 1 ? a.alpha : a.beta));
      else if (node.op == ScalarOp::constant)
        at.push_back(constant(node.value));
      else
        at.push_back(op(node.op, at[node.a], scalar_arity(node.op) > 1 ? at[node.b] : uint16_t{0},
                        scalar_arity(node.op) > 2 ? at[node.c] : uint16_t{0}));
    }
    return at.back();
  }
  void store(uint16_t a) {
    TileInstruction i{.kind = TileInstruction::Kind::store};
    i.a = a;
    i.index = static_cast<uint16_t>(program.results.size());
    program.results.push_back({});
    add(i);
  }
  TileProgram program;

 private:
  uint16_t add(const TileInstruction& i) {
    program.code.push_back(i);
    return static_cast<uint16_t>(program.code.size() - 1);
  }
  std::span<const ActivationText> activations_;
  double clip_;
};

// x + y, activated
uint16_t gate(ProgramBuilder& b) {
  const uint16_t x = b.load(), y = b.load();
  return b.activate(0, b.op(ScalarOp::add, x, y));
}
// (1 - z) * n + z * h
void mix(ProgramBuilder& b, uint16_t z, uint16_t n, uint16_t h) {
  const uint16_t fresh = b.op(ScalarOp::mul, b.op(ScalarOp::sub, b.constant(1), z), n);
  b.store(b.op(ScalarOp::add, fresh, b.op(ScalarOp::mul, z, h)));
}

}  // namespace

TileProgram lstm_program(const GateActivations& gates, bool coupled, bool peepholes) {
  ProgramBuilder b(gates);
  const uint16_t i = b.load(), o = b.load(), f = b.load(), g = b.load(), c = b.load();
  uint16_t peephole[3] = {};
  if (peepholes)
    for (uint16_t& p : peephole) p = b.load(Spread::column);
  const auto seen = [&](uint16_t x, int which, uint16_t cell) {
    return peepholes ? b.op(ScalarOp::add, x, b.op(ScalarOp::mul, peephole[which], cell)) : x;
  };
  const uint16_t in = b.activate(0, seen(i, 0, c));
  const uint16_t keep = coupled ? b.op(ScalarOp::sub, b.constant(1), in) : b.activate(0, seen(f, 2, c));
  const uint16_t kept = b.op(ScalarOp::mul, keep, c);
  const uint16_t next = b.op(ScalarOp::add, kept, b.op(ScalarOp::mul, in, b.activate(1, g)));
  const uint16_t out = b.activate(0, seen(o, 1, next));
  b.store(next);
  b.store(b.op(ScalarOp::mul, out, b.activate(2, next, false)));
  return std::move(b.program);
}

TileProgram gru_program(const GateActivations& gates) {
  ProgramBuilder b(gates);
  const uint16_t z = gate(b), r = gate(b), x = b.load(), y = b.load(), h = b.load();
  mix(b, z, b.activate(1, b.op(ScalarOp::add, x, b.op(ScalarOp::mul, r, y))), h);
  return std::move(b.program);
}
TileProgram gru_reset_program(const GateActivations& gates) {
  ProgramBuilder b(gates);
  const uint16_t z = gate(b), r = gate(b), h = b.load();
  b.store(z);
  b.store(b.op(ScalarOp::mul, r, h));
  return std::move(b.program);
}
TileProgram gru_update_program(const GateActivations& gates) {
  ProgramBuilder b(gates);
  const uint16_t z = b.load(), x = b.load(), y = b.load(), h = b.load();
  mix(b, z, b.activate(1, b.op(ScalarOp::add, x, y)), h);
  return std::move(b.program);
}
TileProgram rnn_program(const GateActivations& gates) {
  ProgramBuilder b(gates);
  const uint16_t x = b.load();
  b.store(b.activate(0, x));
  return std::move(b.program);
}

}  // namespace sinter::cpu
