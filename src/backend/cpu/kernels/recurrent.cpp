// LSTM and GRU of f32 with their own activations: the products with the inputs of all steps are one multiplication;
// then each step multiplies the state with the recurrent weights and runs the gates as a tile program. Sequences of a
// batch and directions are independent. Left to the reference: lengths, clipping, peepholes, other activations.

#include "ops/recurrent.h"

#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/tile_executor.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

struct Family {
  const char* op;
  bool lstm;
  int64_t gates;
};
constexpr Family lstm_family = {"LSTM", true, 4}, gru_family = {"GRU", false, 3};

enum Input : size_t { in_x, in_w, in_r, in_bias, in_lengths, in_h, in_c, in_peepholes };

bool has(const Stage& stage, size_t input) {
  return input < stage.inputs.size() && stage.inputs[input] != absent_operand;
}
int64_t directions(const RecurrentAttrs& a) { return a.direction == Direction::bidirectional ? 2 : 1; }

// Columns of the weights, where they are known.
std::optional<int64_t> columns(const Problem& problem, uint16_t weights) {
  return (*problem.types[weights].shape)[1].as_constant();
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  const Family& family = *static_cast<const Family*>(kernel.self);
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], family.op)) return Answer::no("another operator");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  const RecurrentAttrs& attrs = stage.attrs.as<RecurrentAttrs>();
  if (stage.inputs.size() < 3) return Answer::no("weights are missing");
  if (has(stage, in_lengths)) return Answer::no("sequences of different lengths");
  if (has(stage, in_peepholes)) return Answer::no("peepholes");
  if (!(attrs.clip == 0) || attrs.input_forget) return Answer::no("clipping or coupled gates");
  static constexpr std::string_view own[] = {"sigmoid", "tanh", "tanh"};
  const size_t each = family.lstm ? 3 : 2;
  for (size_t i = 0; i < attrs.activations.size(); ++i)
    if (attrs.activations[i] != own[i % each]) return Answer::no("other activations");
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    if (!has(stage, i)) continue;
    if (Answer a = device_f32(problem, stage.inputs[i]); !a) return a;
    const Operand& operand = problem.operands[stage.inputs[i]];
    if (operand.type.shape->size() != (i == in_bias ? 2u : 3u)) return Answer::no("ranks do not fit");
    if (i != in_w && i != in_r) {
      if (!row_major_or_any(operand.layout)) return Answer::no("operands must be row-major");
      if (stage.inputs[i] == stage.inputs[in_w] || stage.inputs[i] == stage.inputs[in_r])
        return Answer::no("weights stand twice");
      continue;
    }
    const auto n = columns(problem, stage.inputs[i]);
    if (!n) return Answer::no("the size of the state is not constant");
    if (operand.layout.kind != Layout::Kind::any &&
        operand.layout != matrix_layout(contract_table(device.level), *n, true))
      return Answer::no("weights have another layout");
  }
  if (problem.results.empty()) return Answer::no("no results");
  for (const Problem::Result& result : problem.results) {
    const auto same = [&](const Problem::Result& other) { return other.value == result.value; };
    if (std::count_if(problem.results.begin(), problem.results.end(), same) != 1)
      return Answer::no("a result stands twice");
    if (problem.types[result.value].dtype != DType::f32) return Answer::no("results must be f32");
    if (!row_major_or_any(result.layout)) return Answer::no("results must be row-major");
  }
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const bool weights = i == stage.inputs[in_w] || i == stage.inputs[in_r];
    const auto v = static_cast<uint16_t>(i);
    out.operands.push_back(weights ? matrix_layout(contract_table(device.level), *columns(problem, v), true)
                                   : Layout());
  }
  out.results.assign(problem.results.size(), Layout());
  return out;
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  const auto extent = [&](size_t axis) {
    const Dim& d = (*problem.types[stage.inputs[in_x]].shape)[axis];
    return static_cast<double>(std::max<int64_t>(1, d.evaluate(symbols)));
  };
  const double weights =
      elements_at(problem.types[stage.inputs[in_w]], symbols) + elements_at(problem.types[stage.inputs[in_r]], symbols);
  return 500 * extent(0) + contraction_cost(contract_table(device.level), device, extent(0) * extent(1), weights, 1,
                                            4 * extent(0) * weights);
}

// ---- programs of the gates ----

class ProgramBuilder {
 public:
  uint16_t load() {
    TileInstruction i{.kind = TileInstruction::Kind::load};
    i.index = static_cast<uint16_t>(program.operands.size());
    program.operands.push_back({});
    return add(i);
  }
  uint16_t op(ScalarOp op, uint16_t a, uint16_t b = 0) {
    TileInstruction i{.op = op};
    i.a = a;
    i.b = b;
    return add(i);
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
};

// (i, o, f, c~, c) → (c, h)
TileProgram lstm_program() {
  ProgramBuilder b;
  const uint16_t i = b.load(), o = b.load(), f = b.load(), g = b.load(), c = b.load();
  const uint16_t kept = b.op(ScalarOp::mul, b.op(ScalarOp::sigmoid, f), c);
  const uint16_t fresh = b.op(ScalarOp::mul, b.op(ScalarOp::sigmoid, i), b.op(ScalarOp::tanh, g));
  const uint16_t next = b.op(ScalarOp::add, kept, fresh);
  b.store(next);
  b.store(b.op(ScalarOp::mul, b.op(ScalarOp::sigmoid, o), b.op(ScalarOp::tanh, next)));
  return std::move(b.program);
}

// sigmoid(x + y)
uint16_t gate(ProgramBuilder& b) {
  const uint16_t x = b.load(), y = b.load();
  return b.op(ScalarOp::sigmoid, b.op(ScalarOp::add, x, y));
}
// z * (h - n) + n
void mix(ProgramBuilder& b, uint16_t z, uint16_t n, uint16_t h) {
  b.store(b.op(ScalarOp::add, b.op(ScalarOp::mul, z, b.op(ScalarOp::sub, h, n)), n));
}

// Reset after the product: (zx, zh, rx, rh, nx, nh, h) → h
TileProgram gru_program() {
  ProgramBuilder b;
  const uint16_t z = gate(b), r = gate(b), x = b.load(), y = b.load(), h = b.load();
  mix(b, z, b.op(ScalarOp::tanh, b.op(ScalarOp::add, x, b.op(ScalarOp::mul, r, y))), h);
  return std::move(b.program);
}
// Reset before it, first half: (zx, zh, rx, rh, h) → (z, r * h)
TileProgram gru_reset_program() {
  ProgramBuilder b;
  const uint16_t z = gate(b), r = gate(b), h = b.load();
  b.store(z);
  b.store(b.op(ScalarOp::mul, r, h));
  return std::move(b.program);
}
// Second half: (z, nx, nh, h) → h
TileProgram gru_update_program() {
  ProgramBuilder b;
  const uint16_t z = b.load(), x = b.load(), y = b.load(), h = b.load();
  mix(b, z, b.op(ScalarOp::tanh, b.op(ScalarOp::add, x, y)), h);
  return std::move(b.program);
}

struct Prepared {
  const ContractTable* table;
  std::shared_ptr<const TileExecutor> first, second;
};

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  const bool lstm = static_cast<const Family*>(kernel.self)->lstm;
  auto out = std::make_shared<Prepared>();
  out->table = &contract_table(device.level);
  if (lstm) {
    out->first = make_executor(lstm_program(), device.level);
  } else if (problem.stages[0].attrs.as<RecurrentAttrs>().linear_before_reset) {
    out->first = make_executor(gru_program(), device.level);
  } else {
    out->first = make_executor(gru_reset_program(), device.level);
    out->second = make_executor(gru_update_program(), device.level);
  }
  return out;
}

// ---- running ----

struct Plan {
  const Prepared* prepared;
  const Family* family;
  int64_t steps, batch, inputs, hidden, width, directions;  // width: columns of all gates
  bool reset_after = false;                                 // GRU's linear_before_reset
  Direction direction;
  ContractArgs from_input, from_state;
  int64_t row_step = 1, row_parts = 0;      // of the products with the inputs, by direction
  int64_t batch_step = 1, batch_parts = 0;  // of the recurrence
  // Bytes into the workspace.
  int64_t bias_w = 0, bias_r = 0, gates = 0, state = 0, cell = 0, products = 0, again = 0, reset = 0;
  int64_t tile_offset = 0;
};

void bind(const Kernel& kernel, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const RecurrentAttrs& attrs = stage.attrs.as<RecurrentAttrs>();
  Plan& p = emplace<Plan>(bound);
  p.prepared = static_cast<const Prepared*>(prepared_pointer);
  p.family = static_cast<const Family*>(kernel.self);
  const ContractTable& table = *p.prepared->table;
  const Dims& x = c.operands[stage.inputs[in_x]];
  const Dims& r = c.operands[stage.inputs[in_r]];
  p.steps = x[0];
  p.batch = x[1];
  p.inputs = x[2];
  p.hidden = r[2];
  p.width = checked_mul(p.hidden, p.family->gates, "gates");
  p.directions = directions(attrs);
  p.direction = attrs.direction;
  p.reset_after = attrs.linear_before_reset;
  const auto need = [&](size_t input, const Dims& dims) {
    if (has(stage, input) && c.operands[stage.inputs[input]] != dims)
      throw Error(Code::invalid_argument, "the operands of a recurrent network do not fit together");
  };
  need(in_w, {p.directions, p.width, p.inputs});
  need(in_r, {p.directions, p.width, p.hidden});
  need(in_bias, {p.directions, 2 * p.width});
  need(in_h, {p.directions, p.batch, p.hidden});
  need(in_c, {p.directions, p.batch, p.hidden});
  for (size_t i = 0; i < c.results.size(); ++i) {
    const size_t output = c.problem.results[i].value - c.problem.first_result[0];
    const Dims wanted =
        output == 0 ? Dims{p.steps, p.directions, p.batch, p.hidden} : Dims{p.directions, p.batch, p.hidden};
    if (c.results[i] != wanted)
      throw Error(Code::invalid_argument, "the results of a recurrent network do not fit its operands");
  }
  bound.phases = 3;
  bound.chunks[0] = bound.chunks[1] = bound.chunks[2] = 0;
  if (p.batch == 0 || p.hidden == 0) return;

  const int64_t rows = checked_mul(p.steps, p.batch, "rows");
  int64_t at = 0;
  const auto place = [&](int64_t floats) {
    const int64_t here = at;
    at = checked_add(at, align_up(byte_size(DType::f32, checked_mul(floats, p.directions, "workspace")), 64),
                     "workspace");
    return here;
  };
  const int64_t sequence_state = checked_mul(p.batch, p.hidden, "state"),
                sequence_gates = checked_mul(p.batch, p.width);
  p.bias_w = place(p.width);
  p.bias_r = place(p.width);
  p.gates = place(checked_mul(rows, p.width, "gates"));
  p.state = place(sequence_state);
  p.cell = place(sequence_state);
  if (!p.family->lstm) {
    p.products = place(sequence_gates);
    p.again = place(sequence_gates);
    p.reset = place(sequence_state);
  }
  bound.workspace = at;

  ContractArgs& in = p.from_input;
  in.m = rows;
  in.n = p.width;
  in.k = in.lda = p.inputs;
  in.ldc = p.width;
  in.nr = table.panel_width(p.width);
  ContractArgs& state = p.from_state;
  state.n = p.width;
  state.k = state.lda = p.hidden;
  state.ldc = p.width;
  state.nr = in.nr;
  state.accumulate = p.family->lstm;
  const double work = static_cast<double>(rows) * static_cast<double>(p.width) * static_cast<double>(p.inputs);
  const auto by_work = static_cast<int64_t>(std::min(1e9, work / (1 << 20))) + 1;
  const int64_t units = (rows + table.max_rows - 1) / table.max_rows;
  const int64_t wanted = c.threads <= 1 ? 1 : std::min(by_work, 6 * static_cast<int64_t>(c.threads));
  p.row_step = std::max<int64_t>(1, (units + wanted - 1) / wanted) * table.max_rows;
  p.row_parts = (rows + p.row_step - 1) / p.row_step;
  // Sequences share the stream of weights: splitting pays for many of them only.
  const int64_t parts = c.threads <= 1 ? 1 : std::clamp<int64_t>(p.batch / 16, 1, c.threads);
  p.batch_step = (p.batch + parts - 1) / parts;
  p.batch_parts = (p.batch + p.batch_step - 1) / p.batch_step;
  state.m = p.batch_step;

  bound.chunks[0] = p.directions;
  bound.chunks[1] = p.directions * p.row_parts;
  bound.chunks[2] = p.directions * p.batch_parts;
  int64_t scratch = 0;
  for (const int64_t m : {std::min(p.row_step, rows), rows - std::max<int64_t>(0, p.row_parts - 1) * p.row_step})
    if (m > 0) scratch = std::max(scratch, table.scratch_size(in, m));
  for (const int64_t m : {p.batch_step, p.batch - (p.batch_parts - 1) * p.batch_step})
    scratch = std::max(scratch, table.scratch_size(state, m));
  p.tile_offset = align_up(scratch, 64, "scratch");
  int64_t tile = tile_scratch(*p.prepared->first, p.hidden);
  if (p.prepared->second) tile = std::max(tile, tile_scratch(*p.prepared->second, p.hidden));
  bound.scratch = checked_add(p.tile_offset, tile, "scratch");
}

float* at(const Launch& launch, int64_t offset, int64_t floats) {
  return reinterpret_cast<float*>(launch.workspace + offset) + floats;
}
const float* operand(const Launch& launch, size_t input) {
  const Stage& stage = launch.problem->stages[0];
  return has(stage, input) ? static_cast<const float*>(launch.operands[stage.inputs[input]]) : nullptr;
}

// What is added once per step goes to the products with the inputs; what the reset gate multiplies stays apart.
void sum_biases(const Plan& p, const Launch& launch) {
  const int64_t d = launch.chunk;
  float* w = at(launch, p.bias_w, d * p.width);
  float* r = at(launch, p.bias_r, d * p.width);
  const float* bias = operand(launch, in_bias);
  const int64_t apart = !p.family->lstm && p.reset_after ? 2 * p.hidden : p.width;
  for (int64_t i = 0; i < p.width; ++i) {
    const float bw = bias ? bias[d * 2 * p.width + i] : 0, br = bias ? bias[(d * 2 + 1) * p.width + i] : 0;
    w[i] = i < apart ? bw + br : bw;
    r[i] = i < apart ? 0 : br;
  }
}

void multiply_inputs(const Plan& p, const Launch& launch) {
  const ContractTable& table = *p.prepared->table;
  const int64_t d = launch.chunk / p.row_parts, begin = launch.chunk % p.row_parts * p.row_step;
  ContractArgs args = p.from_input;
  args.a = operand(launch, in_x);
  args.b = operand(launch, in_w) + d * table.packed_size(1, args.k, args.n, args.nr, 1);
  args.c = at(launch, p.gates, d * args.m * p.width);
  args.bias = at(launch, p.bias_w, d * p.width);
  table.chunk(args, begin, std::min(args.m, begin + p.row_step), 0, args.n, launch.scratch);
}

// Everything about one direction and sequences [begin, end).
struct Sequences {
  const Plan& p;
  const Launch& launch;
  int64_t d, begin, rows;
  ContractArgs args;
  float *h, *c;

  Sequences(const Plan& plan, const Launch& l)
      : p(plan), launch(l), d(l.chunk / p.batch_parts), begin(l.chunk % p.batch_parts * p.batch_step) {
    rows = std::min(p.batch, begin + p.batch_step) - begin;
    h = at(launch, p.state, (d * p.batch + begin) * p.hidden);
    c = at(launch, p.cell, (d * p.batch + begin) * p.hidden);
    args = p.from_state;
    args.m = rows;
    args.b = operand(launch, in_r) + d * p.prepared->table->packed_size(1, args.k, args.n, args.nr, 1);
  }
  void multiply(const float* a, float* to, int64_t n_begin, int64_t n_end) {
    args.a = a;
    args.c = to;
    p.prepared->table->chunk(args, 0, rows, n_begin, n_end, launch.scratch);
  }
  void tiles(const TileExecutor& executor, std::span<const TileBuffer> buffers) const {
    run_tile(executor, buffers, 0, rows, p.hidden, launch.scratch + p.tile_offset);
  }
  // A gate's columns of a [rows, width] array.
  TileBuffer of_gate(float* base, int64_t gate) const { return {base + gate * p.hidden, p.width, 1}; }
  TileBuffer dense(float* base) const { return {base, p.hidden, 1}; }

  void lstm(float* gates) {
    multiply(h, gates, 0, p.width);
    const TileBuffer buffers[] = {of_gate(gates, 0), of_gate(gates, 1), of_gate(gates, 2), of_gate(gates, 3),
                                  dense(c),          dense(c),          dense(h)};
    tiles(*p.prepared->first, buffers);
  }
  void gru(float* gates) {
    float* products = at(launch, p.products, (d * p.batch + begin) * p.width);
    if (p.reset_after) {
      args.bias = at(launch, p.bias_r, d * p.width);
      multiply(h, products, 0, p.width);
      const TileBuffer buffers[] = {of_gate(gates, 0), of_gate(products, 0), of_gate(gates, 1), of_gate(products, 1),
                                    of_gate(gates, 2), of_gate(products, 2), dense(h),          dense(h)};
      tiles(*p.prepared->first, buffers);
      return;
    }
    float* reset = at(launch, p.reset, (d * p.batch + begin) * p.hidden);
    float* again = at(launch, p.again, (d * p.batch + begin) * p.width);
    // Whole panels: those that hold the first two gates, then those that hold the third.
    multiply(h, products, 0, std::min(p.width, (2 * p.hidden + args.nr - 1) / args.nr * args.nr));
    const TileBuffer first[] = {of_gate(gates, 0), of_gate(products, 0), of_gate(gates, 1), of_gate(products, 1),
                                dense(h),          of_gate(products, 0), dense(reset)};
    tiles(*p.prepared->first, first);
    multiply(reset, again, 2 * p.hidden / args.nr * args.nr, p.width);
    const TileBuffer second[] = {of_gate(products, 0), of_gate(gates, 2), of_gate(again, 2), dense(h), dense(h)};
    tiles(*p.prepared->second, second);
  }

  void run() {
    const size_t bytes = static_cast<size_t>(rows * p.hidden) * 4;
    const auto start = [&](float* to, const float* from) {
      if (from)
        std::memcpy(to, from + (d * p.batch + begin) * p.hidden, bytes);
      else
        std::memset(to, 0, bytes);
    };
    start(h, operand(launch, in_h));
    start(c, p.family->lstm ? operand(launch, in_c) : nullptr);
    float* results[3] = {};
    for (size_t i = 0; i < launch.problem->results.size(); ++i)
      results[launch.problem->results[i].value - launch.problem->first_result[0]] =
          static_cast<float*>(launch.operands[launch.problem->operands.size() + i]);
    const bool reverse = p.direction == Direction::reverse || d == 1;
    for (int64_t s = 0; s < p.steps; ++s) {
      const int64_t t = reverse ? p.steps - 1 - s : s;
      float* gates = at(launch, p.gates, ((d * p.steps + t) * p.batch + begin) * p.width);
      if (p.family->lstm)
        lstm(gates);
      else
        gru(gates);
      if (results[0]) std::memcpy(results[0] + ((t * p.directions + d) * p.batch + begin) * p.hidden, h, bytes);
    }
    if (results[1]) std::memcpy(results[1] + (d * p.batch + begin) * p.hidden, h, bytes);
    if (results[2]) std::memcpy(results[2] + (d * p.batch + begin) * p.hidden, c, bytes);
  }
};

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  if (launch.phase == 0)
    sum_biases(p, launch);
  else if (launch.phase == 1)
    multiply_inputs(p, launch);
  else
    Sequences(p, launch).run();
  return {};
}

constexpr Kernel rows[] = {
    {.name = "lstm_f32",
     .self = &lstm_family,
     .supports = supports,
     .needs = needs,
     .cost = cost,
     .prepare = prepare,
     .bind = bind,
     .run = run},
    {.name = "gru_f32",
     .self = &gru_family,
     .supports = supports,
     .needs = needs,
     .cost = cost,
     .prepare = prepare,
     .bind = bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> recurrent_kernels() { return rows; }

}  // namespace sinter::cpu
