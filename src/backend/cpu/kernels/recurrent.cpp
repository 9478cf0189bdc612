// LSTM, GRU and RNN of f32: the products with the inputs of all steps are one multiplication; then each step multiplies
// the state with the recurrent weights and runs the gates as a tile program. Sequences of a batch and directions are
// independent. Sequences of different lengths are sorted, the longest first, so that those still running are the first
// rows.

#include "ops/recurrent.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/recurrent_programs.h"
#include "backend/cpu/tile_executor.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

enum class Cell : uint8_t { lstm, gru, rnn };
struct Family {
  const char* op;
  Cell cell;
  int64_t gates;
  size_t activations;
};
constexpr Family lstm_family = {"LSTM", Cell::lstm, 4, 3}, gru_family = {"GRU", Cell::gru, 3, 2},
                 rnn_family = {"RNN", Cell::rnn, 1, 1};

enum Input : size_t { in_x, in_w, in_r, in_bias, in_lengths, in_h, in_c, in_peepholes };

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
  if (stage.inputs.size() < 3) return Answer::no("weights are missing");
  if (has(stage, in_lengths)) {
    const uint16_t v = stage.inputs[in_lengths];
    if (v >= problem.operands.size() || problem.operands[v].host) return Answer::no("lengths lie on the host");
    if (problem.types[v].dtype != DType::i32 || problem.types[v].shape->size() != 1)
      return Answer::no("lengths are no vector of i32");
    if (!row_major_or_any(problem.operands[v].layout)) return Answer::no("operands must be row-major");
  }
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    if (!has(stage, i) || i == in_lengths) continue;
    if (Answer a = device_f32(problem, stage.inputs[i]); !a) return a;
    const Operand& operand = problem.operands[stage.inputs[i]];
    if (operand.type.shape->size() != (i == in_bias || i == in_peepholes ? 2u : 3u))
      return Answer::no("ranks do not fit");
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
  return 500 * extent(0) +
         contraction_cost(contract_table(device.level), extent(0) * extent(1), weights, 1, 4 * extent(0) * weights);
}

struct Prepared {
  const ContractTable* table;
  std::shared_ptr<const TileExecutor> first[2], second[2];  // by direction
};

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  const Family& family = *static_cast<const Family*>(kernel.self);
  const Stage& stage = problem.stages[0];
  const RecurrentAttrs& attrs = stage.attrs.as<RecurrentAttrs>();
  const std::vector<ActivationText> all = recurrent_activations(family.op, attrs);
  auto out = std::make_shared<Prepared>();
  out->table = &contract_table(device.level);
  for (size_t d = 0; d < static_cast<size_t>(directions(attrs)); ++d) {
    const GateActivations own{std::span<const ActivationText>(all).subspan(d * family.activations, family.activations),
                              attrs.clip};
    const auto make = [&](const TileProgram& program) { return make_executor(program, device.level); };
    if (family.cell == Cell::lstm) {
      out->first[d] = make(lstm_program(own, attrs.input_forget, has(stage, in_peepholes)));
    } else if (family.cell == Cell::rnn) {
      out->first[d] = make(rnn_program(own));
    } else if (attrs.linear_before_reset) {
      out->first[d] = make(gru_program(own));
    } else {
      out->first[d] = make(gru_reset_program(own));
      out->second[d] = make(gru_update_program(own));
    }
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
  int64_t order = 0, sorted = 0;  // with lengths: numbers of sequences, and the gates of one step
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
  need(in_lengths, {p.batch});
  need(in_peepholes, {p.directions, checked_mul(p.hidden, 3, "peepholes")});
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
  if (has(stage, in_lengths)) {
    p.order = place(p.batch);
    p.sorted = place(sequence_gates);
  }
  if (p.family->cell == Cell::gru) {
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
  state.accumulate = p.family->cell != Cell::gru;
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
    if (m > 0) scratch = std::max(scratch, table.scratch_size(in, m, in.n));
  for (const int64_t m : {p.batch_step, p.batch - (p.batch_parts - 1) * p.batch_step})
    scratch = std::max(scratch, table.scratch_size(state, m, state.n));
  p.tile_offset = align_up(scratch, 64, "scratch");
  int64_t tile = 0;
  for (size_t d = 0; d < 2; ++d)
    for (const auto* executor : {p.prepared->first[d].get(), p.prepared->second[d].get()})
      if (executor) tile = std::max(tile, tile_scratch(*executor, p.hidden));
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
  const int64_t apart = p.family->cell == Cell::gru && p.reset_after ? 2 * p.hidden : p.width;
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

  const TileExecutor& first() const { return *p.prepared->first[d]; }

  void lstm(float* gates) {
    multiply(h, gates, 0, p.width);
    if (const float* peepholes = operand(launch, in_peepholes)) {
      const auto of = [&](int64_t which) {
        return TileBuffer{const_cast<float*>(peepholes) + (d * 3 + which) * p.hidden, 0, 1};
      };
      const TileBuffer buffers[] = {
          of_gate(gates, 0), of_gate(gates, 1), of_gate(gates, 2), of_gate(gates, 3), dense(c), of(0), of(1), of(2),
          dense(c),          dense(h)};
      tiles(first(), buffers);
      return;
    }
    const TileBuffer buffers[] = {of_gate(gates, 0), of_gate(gates, 1), of_gate(gates, 2), of_gate(gates, 3),
                                  dense(c),          dense(c),          dense(h)};
    tiles(first(), buffers);
  }
  void rnn(float* gates) {
    multiply(h, gates, 0, p.width);
    const TileBuffer buffers[] = {dense(gates), dense(h)};
    tiles(first(), buffers);
  }
  void gru(float* gates) {
    float* products = at(launch, p.products, (d * p.batch + begin) * p.width);
    if (p.reset_after) {
      args.bias = at(launch, p.bias_r, d * p.width);
      multiply(h, products, 0, p.width);
      const TileBuffer buffers[] = {of_gate(gates, 0), of_gate(products, 0), of_gate(gates, 1), of_gate(products, 1),
                                    of_gate(gates, 2), of_gate(products, 2), dense(h),          dense(h)};
      tiles(first(), buffers);
      return;
    }
    float* reset = at(launch, p.reset, (d * p.batch + begin) * p.hidden);
    float* again = at(launch, p.again, (d * p.batch + begin) * p.width);
    // Whole panels: those that hold the first two gates, then those that hold the third.
    multiply(h, products, 0, std::min(p.width, (2 * p.hidden + args.nr - 1) / args.nr * args.nr));
    const TileBuffer before[] = {of_gate(gates, 0), of_gate(products, 0), of_gate(gates, 1), of_gate(products, 1),
                                 dense(h),          of_gate(products, 0), dense(reset)};
    tiles(first(), before);
    multiply(reset, again, 2 * p.hidden / args.nr * args.nr, p.width);
    const TileBuffer after[] = {of_gate(products, 0), of_gate(gates, 2), of_gate(again, 2), dense(h), dense(h)};
    tiles(*p.prepared->second[d], after);
  }

  void step(float* gates) {
    if (p.family->cell == Cell::lstm)
      lstm(gates);
    else if (p.family->cell == Cell::gru)
      gru(gates);
    else
      rnn(gates);
  }

  void find_results(float** results) const {
    for (size_t i = 0; i < launch.problem->results.size(); ++i)
      results[launch.problem->results[i].value - launch.problem->first_result[0]] =
          static_cast<float*>(launch.operands[launch.problem->operands.size() + i]);
  }
  bool reverse() const { return p.direction == Direction::reverse || d == 1; }

  void run() {
    const size_t bytes = static_cast<size_t>(rows * p.hidden) * 4;
    const auto start = [&](float* to, const float* from) {
      if (from)
        std::memcpy(to, from + (d * p.batch + begin) * p.hidden, bytes);
      else
        std::memset(to, 0, bytes);
    };
    start(h, operand(launch, in_h));
    start(c, p.family->cell == Cell::lstm ? operand(launch, in_c) : nullptr);
    float* results[3] = {};
    find_results(results);
    for (int64_t s = 0; s < p.steps; ++s) {
      const int64_t t = reverse() ? p.steps - 1 - s : s;
      step(at(launch, p.gates, ((d * p.steps + t) * p.batch + begin) * p.width));
      if (results[0]) std::memcpy(results[0] + ((t * p.directions + d) * p.batch + begin) * p.hidden, h, bytes);
    }
    if (results[1]) std::memcpy(results[1] + (d * p.batch + begin) * p.hidden, h, bytes);
    if (results[2]) std::memcpy(results[2] + (d * p.batch + begin) * p.hidden, c, bytes);
  }

  // Sequences end at their own lengths: rows of the state are sequences by falling length.
  void run_lengths(const int32_t* lengths) {
    const int64_t all = rows;
    const size_t bytes = static_cast<size_t>(p.hidden) * 4, gate_bytes = static_cast<size_t>(p.width) * 4;
    const auto length = [&](int64_t sequence) { return std::clamp<int64_t>(lengths[sequence], 0, p.steps); };
    auto* order = reinterpret_cast<int32_t*>(at(launch, p.order, d * p.batch + begin));
    for (int64_t i = 0; i < all; ++i) {
      order[i] = static_cast<int32_t>(begin + i);
      if (lengths[begin + i] != length(begin + i)) launch.fault->store(index_out_of_range, std::memory_order_relaxed);
    }
    std::sort(order, order + all, [&](int32_t x, int32_t y) {
      const int64_t a = length(x), b = length(y);
      return a != b ? a > b : x < y;
    });
    const auto start = [&](float* to, const float* from) {
      for (int64_t i = 0; i < all; ++i)
        if (from)
          std::memcpy(to + i * p.hidden, from + (d * p.batch + order[i]) * p.hidden, bytes);
        else
          std::memset(to + i * p.hidden, 0, bytes);
    };
    start(h, operand(launch, in_h));
    start(c, p.family->cell == Cell::lstm ? operand(launch, in_c) : nullptr);
    float* results[3] = {};
    find_results(results);
    const auto place = [&](int64_t t, int64_t i) {
      return results[0] + ((t * p.directions + d) * p.batch + order[i]) * p.hidden;
    };
    float* gates = at(launch, p.sorted, (d * p.batch + begin) * p.width);
    for (int64_t s = 0; s < p.steps; ++s) {
      while (rows > 0 && length(order[rows - 1]) <= s) --rows;
      for (int64_t i = rows; i < all && results[0]; ++i) std::memset(place(s, i), 0, bytes);
      if (rows == 0) continue;
      const auto now = [&](int64_t i) { return reverse() ? length(order[i]) - 1 - s : s; };
      for (int64_t i = 0; i < rows; ++i)
        std::memcpy(gates + i * p.width, at(launch, p.gates, ((d * p.steps + now(i)) * p.batch + order[i]) * p.width),
                    gate_bytes);
      args.m = rows;
      step(gates);
      for (int64_t i = 0; i < rows && results[0]; ++i) std::memcpy(place(now(i), i), h + i * p.hidden, bytes);
    }
    for (int64_t i = 0; i < all; ++i) {
      if (results[1]) std::memcpy(results[1] + (d * p.batch + order[i]) * p.hidden, h + i * p.hidden, bytes);
      if (results[2]) std::memcpy(results[2] + (d * p.batch + order[i]) * p.hidden, c + i * p.hidden, bytes);
    }
  }
};

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  if (launch.phase == 0)
    sum_biases(p, launch);
  else if (launch.phase == 1)
    multiply_inputs(p, launch);
  else if (const Stage& stage = launch.problem->stages[0]; has(stage, in_lengths))
    Sequences(p, launch).run_lengths(static_cast<const int32_t*>(launch.operands[stage.inputs[in_lengths]]));
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
    {.name = "rnn_f32",
     .self = &rnn_family,
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
