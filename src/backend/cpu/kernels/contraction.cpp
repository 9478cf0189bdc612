#include "backend/cpu/kernels/contraction.h"

#include <array>
#include <cmath>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

constexpr double least_piece = 4000, good_piece = 15000;  // nanoseconds: worth a chunk; enough of one for a thread
constexpr int64_t turn_block = 4096;                      // pixels of a chunk that turns A around
constexpr int64_t unpacked_rows = 16, unpacked_cols = 256;

struct Plan {
  const PreparedContraction* prepared;
  Product product;
  BoundEpilogue epilogue;
  int64_t calls = 1;
  int64_t m_step = 1, m_parts = 1, n_step = 1, n_parts = 1;
  int64_t units = 0, units_per_chunk = 1;
  // First phase.
  int64_t matrix_size = 0;  // floats of a packed matrix
  int64_t panels_per_pack = 1, packs_per_matrix = 0, packs = 0, turns_per_image = 0, turns = 0;
  int64_t turned_offset = 0;  // bytes into the workspace
  int64_t tile_offset = 0;    // bytes into the scratch: the epilogue's part
  int64_t block_offset = 0;   // the same: the block of the unpacked mode
};

// Position of one call on the call axes and offsets there.
struct Place {
  std::array<int64_t, max_rank_of_values + 2> at;
  int64_t dot(const std::vector<int64_t>& strides) const {
    int64_t sum = 0;
    for (size_t k = 0; k < strides.size(); ++k) sum += at[k] * strides[k];
    return sum;
  }
};

Place place_of(const Dims& dims, int64_t call) {
  Place p{};
  for (size_t k = dims.size(); k-- > 0;) {
    p.at[k] = call % dims[k];
    call /= dims[k];
  }
  return p;
}

// Parts of M and N for at most `wanted` pieces of one call, which takes `ns` alone, on some threads.
void split_call(Plan& plan, int64_t wanted, double ns, int threads) {
  const ContractArgs& args = plan.product.args;
  const ContractTable& table = *plan.prepared->table;
  const int64_t row_unit = planes_of(table) > 0 ? 16 : table.max_rows;
  const int64_t col_unit = plan.product.unpacked ? unpacked_cols : args.nr;
  const int64_t row_units = std::max<int64_t>(1, ceil_div(args.m, row_unit));
  const int64_t col_units = std::max<int64_t>(1, ceil_div(args.n, col_unit));
  // Each part of M streams all of B. Each part of N reads all of A, and splits it into planes; and threads that divide
  // columns make and want other lines than those that divide rows, as the rest of a network does: what they exchange
  // comes from another core's cache. In nanoseconds:
  const auto m = static_cast<double>(args.m), n = static_cast<double>(args.n), k = static_cast<double>(args.k);
  const auto sharing = static_cast<double>(std::min<int64_t>(wanted, threads));
  const double streamed = n * k * static_cast<double>(args.taps) * panel_bytes(table.numbers) / 30;
  const double read = m * k * table.pace.split * std::max(planes_of(table), 1);
  const double exchanged = (m * k + m * n) * 4 / 17 * (sharing - 1) / sharing;
  double least = 0;
  int64_t row_step = row_units, col_step = col_units;
  for (int64_t by_rows = 1; by_rows <= std::min(wanted, row_units); ++by_rows) {
    for (int64_t by_cols = 1; by_cols <= std::min(wanted / by_rows, col_units); ++by_cols) {
      const int64_t rows = ceil_div(row_units, by_rows), cols = ceil_div(col_units, by_cols);
      const auto parts = static_cast<double>(ceil_div(row_units, rows) * ceil_div(col_units, cols));
      const double of_m = static_cast<double>(rows) / static_cast<double>(row_units);
      const double of_n = static_cast<double>(cols) / static_cast<double>(col_units);
      const double piece = ns * of_m * of_n + streamed * of_n + read * of_m;
      // A thread may have to wait for a piece of another's, whose core is slow just then.
      const double takes = (std::ceil(parts / sharing) + 0.25) * piece + (of_n < 1 ? exchanged : 0);
      if (least > 0 && takes >= least) continue;
      least = takes;
      row_step = rows;
      col_step = cols;
    }
  }
  plan.m_step = row_step * row_unit;
  plan.n_step = col_step * col_unit;
  plan.m_parts = ceil_div(args.m, plan.m_step);
  plan.n_parts = ceil_div(args.n, plan.n_step);
}

void run_packed(const Plan& plan, ContractArgs& args, int64_t unit, void* scratch) {
  const int64_t m = unit % plan.m_parts * plan.m_step, n = unit / plan.m_parts * plan.n_step;
  plan.prepared->table->chunk(args, m, std::min(args.m, m + plan.m_step), n, std::min(args.n, n + plan.n_step),
                              scratch);
}

void run_unpacked(const Plan& plan, const ContractArgs& args, const float* b, int64_t unit, std::byte* scratch) {
  const Product& product = plan.product;
  const int64_t m_begin = unit % plan.m_parts * plan.m_step, m_end = std::min(args.m, m_begin + plan.m_step);
  const int64_t n_begin = unit / plan.m_parts * plan.n_step, n_end = std::min(args.n, n_begin + plan.n_step);
  auto* block = reinterpret_cast<float*>(scratch + plan.block_offset);
  for (int64_t n = n_begin; n < n_end; n += unpacked_cols)
    for (int64_t m = m_begin; m < m_end; m += unpacked_rows) {
      const int64_t rows = std::min(unpacked_rows, m_end - m), cols = std::min(unpacked_cols, n_end - n);
      float* to = args.epilogue ? block : args.c + m * args.ldc + n;
      const int64_t stride = args.epilogue ? unpacked_cols : args.ldc;
      plan.prepared->table->unpacked(rows, args.k, args.a + m * args.lda, args.lda, b + n * product.pack.n_stride,
                                     product.pack.k_stride, product.pack.n_stride, 0, cols, to, stride);
      finish_block(to, rows, cols, stride, args.bias ? args.bias + n : nullptr, args.low, args.high);
      if (args.epilogue) args.epilogue(args.user, m, rows, n, cols, to, stride);
    }
}

void prepare_chunk(const Plan& plan, const Launch& launch) {
  const Product& product = plan.product;
  if (launch.chunk < plan.packs) {
    const int64_t matrix = launch.chunk / plan.packs_per_matrix, part = launch.chunk % plan.packs_per_matrix;
    PackArgs pack = product.pack;
    const Place place = place_of(product.b_matrix_dims, matrix);
    pack.src = static_cast<const float*>(launch.operands[product.b_operand]) + place.dot(product.b_matrix_strides);
    const int64_t n = part * plan.panels_per_pack * pack.nr;
    plan.prepared->table->pack_b(pack, n, std::min(pack.n, n + plan.panels_per_pack * pack.nr),
                                 reinterpret_cast<float*>(launch.workspace) + matrix * plan.matrix_size);
    return;
  }
  const int64_t turn = launch.chunk - plan.packs;
  const int64_t image = turn / plan.turns_per_image, pixel = turn % plan.turns_per_image * turn_block;
  const int64_t base = image * product.turn_pixels * product.turn_channels;
  plan.prepared->table->transpose(
      static_cast<const float*>(launch.operands[product.a_operand]) + base + pixel, product.turn_channels,
      std::min(turn_block, product.turn_pixels - pixel), product.turn_pixels,
      reinterpret_cast<float*>(launch.workspace + plan.turned_offset) + base + pixel * product.turn_channels,
      product.turn_channels);
}

}  // namespace

Answer device_f32(const Problem& problem, uint16_t value, bool narrow) {
  if (value >= problem.operands.size()) return Answer::no("an operand is made by a stage");
  const Operand& operand = problem.operands[value];
  if (operand.type.dtype != DType::f32 && !(narrow && operand.type.dtype == DType::bf16))
    return Answer::no("operands must be f32");
  if (operand.host || !std::holds_alternative<std::monostate>(operand.contents))
    return Answer::no("an operand lies on the host");
  return Answer::yes();
}

Answer convolution_operands(const Problem& problem, const Stage& stage, bool narrow) {
  if (stage.inputs.size() < 2 || stage.inputs.size() > 3) return Answer::no("not two or three operands");
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    if (i == 2 && stage.inputs[i] == absent_operand) continue;
    if (Answer a = device_f32(problem, stage.inputs[i], narrow && i == 0); !a) return a;
  }
  const size_t rank = problem.operands[stage.inputs[0]].type.shape->size();
  if (rank < 3 || problem.operands[stage.inputs[1]].type.shape->size() != rank) return Answer::no("ranks do not fit");
  if (!has(stage, 2)) return Answer::yes();
  const Operand& bias = problem.operands[stage.inputs[2]];
  if (bias.type.shape->size() != 1 || !row_major_or_any(bias.layout)) return Answer::no("the bias is no vector");
  return Answer::yes();
}

LoopsCan loops_can(const ContractTable& table) {
  return {.add = true, .add_narrow = takes_bf16(table), .store_narrow = takes_bf16(table)};
}

Layout matrix_layout(const ContractTable& table, int64_t n, bool transposed) {
  return Layout::matrix_panels(table.panel_width(n), table.lanes, transposed, table.numbers);
}

Layout conv_layout(const ContractTable& table, int64_t n_per_group, int64_t groups, int64_t run) {
  return Layout::conv_panels(table.panel_width(n_per_group), table.lanes, narrow<int32_t>(groups, "groups"),
                             table.numbers, planes_of(table) > 0 ? narrow<int32_t>(run, "taps") : 1);
}

const ContractTable* table_of(const Kernel& kernel, const DeviceSpec& device) {
  return contract_table(device, *static_cast<const PanelNumbers*>(kernel.self));
}

Answer accurate_enough(const Kernel& kernel, const DeviceSpec& device, Numerics numerics) {
  const ContractTable* table = table_of(kernel, device);
  if (table == nullptr) return Answer::no("the instruction set level does not multiply such numbers");
  switch (table->numbers) {
    case PanelNumbers::bf16:
    case PanelNumbers::planes1:
      if (numerics != Numerics::bf16) return Answer::no("rounding to bf16 is not allowed");
      break;
    case PanelNumbers::f16:
    case PanelNumbers::f16_plane:
      if (numerics != Numerics::fp16) return Answer::no("rounding to fp16 is not allowed");
      break;
    case PanelNumbers::planes2:
      if (numerics == Numerics::strict) return Answer::no("the contraction must be strict");
      break;
    case PanelNumbers::plain:
    case PanelNumbers::planes3: break;
  }
  return Answer::yes();
}

std::shared_ptr<const void> prepare_contract_table(const Kernel&, const Problem&, const Config&,
                                                   const DeviceSpec& device) {
  return std::make_shared<const ContractTable*>(&contract_table(device.level));
}

void check_planes(const Window& window, int64_t k) {
  const int64_t line = checked_add(checked_mul(window.out[2], window.stride[2], "image"), 1 << 16, "image");
  checked_mul(checked_mul(line, 1 << 18, "image"), checked_mul(checked_add(k, 64, "channels"), 16, "image"), "image");
}

void bind_product(const PreparedContraction& prepared, const BindContext& c, Product product, Bound& bound) {
  Plan& plan = emplace<Plan>(bound);
  plan.prepared = &prepared;
  plan.product = std::move(product);
  Product& p = plan.product;
  ContractArgs& args = p.args;
  const ContractTable& table = *prepared.table;
  args.nr = table.panel_width(args.n);
  args.low = prepared.epilogue.low;
  args.high = prepared.epilogue.high;
  if (planes_of(table) == 0) args.k_block = prepared.chain;
  const bool program = prepared.epilogue.executor != nullptr;
  args.epilogue = program ? EpilogueRun::block : nullptr;
  args.window = p.windowed ? &p.window : nullptr;
  for (int64_t d : p.call_dims) plan.calls = checked_mul(plan.calls, d, "calls");
  bound.chunks[0] = 0;
  if (plan.calls == 0 || args.m == 0 || args.n == 0) return;

  // First phase: B into panels, A with its channels last.
  if (!p.b_packed && !p.unpacked) {
    p.pack.nr = args.nr;
    plan.matrix_size = table.packed_size(args.taps, args.k, args.n, args.nr, args.run);
    const int64_t panels = ceil_div(args.n, args.nr);
    const int64_t panel_bytes = std::max<int64_t>(1, args.nr * args.k * args.taps * 4);
    plan.panels_per_pack = std::clamp<int64_t>((128 << 10) / panel_bytes, 1, panels);
    plan.packs_per_matrix = ceil_div(panels, plan.panels_per_pack);
    if (plan.matrix_size > 0) plan.packs = checked_mul(p.b_matrices, plan.packs_per_matrix, "panels");
    bound.workspace = align_up(byte_size(DType::f32, checked_mul(p.b_matrices, plan.matrix_size, "packed weights")), 64,
                               "packed weights");
  } else if (p.b_packed) {
    plan.matrix_size = table.packed_size(args.taps, args.k, args.n, args.nr, args.run);
  }
  if (planes_of(table) > 0 && p.windowed) {
    if (p.turn_a) {
      // Splitting turns around as well.
      p.turn_a = false;
      args.lda = 1;
      args.channel_stride = p.turn_pixels;
    }
    check_planes(p.window, args.k);
  }
  if (p.turn_a) {
    plan.turned_offset = bound.workspace;
    plan.turns_per_image = ceil_div(p.turn_pixels, turn_block);
    plan.turns = p.turn_images * plan.turns_per_image;
    const int64_t floats = checked_mul(checked_mul(p.turn_images, p.turn_pixels, "image"), p.turn_channels, "image");
    bound.workspace = checked_add(bound.workspace, byte_size(DType::f32, floats), "workspace");
  }

  // Pieces: as many as are worth it, several for each thread.
  const auto m = static_cast<double>(args.m), n = static_cast<double>(args.n);
  const double depth = static_cast<double>(std::max<int64_t>(args.k, 1)) * static_cast<double>(args.taps);
  const double one = contraction_cost(table, m, n, depth, 4 * (n * depth + m * n));
  const double ns = one * static_cast<double>(plan.calls);
  const int64_t threads = std::max(1, c.threads);
  const auto each = static_cast<double>(threads);
  const double worth = std::max(std::min(ns / least_piece, each), std::min(ns / good_piece, 6 * each));
  const int64_t wanted = threads == 1 ? 1 : std::max<int64_t>(1, static_cast<int64_t>(worth));
  // Calls that threads can share evenly, or nearly, stay whole.
  int64_t of_call = wanted;
  if (plan.calls > 1) of_call = plan.calls % threads == 0 || plan.calls >= 4 * threads ? 1 : std::min(wanted, threads);
  split_call(plan, of_call, one, static_cast<int>(threads));
  plan.units = checked_mul(plan.calls, plan.m_parts * plan.n_parts, "calls");
  plan.units_per_chunk = std::max<int64_t>(1, plan.units / wanted);
  const int64_t prepared_chunks = plan.packs + plan.turns;
  const int phase = prepared_chunks > 0 ? 1 : 0;
  bound.phases = phase + 1;
  if (phase) bound.chunks[0] = prepared_chunks;
  bound.chunks[phase] = ceil_div(plan.units, plan.units_per_chunk);

  const int64_t block_cols = p.unpacked ? unpacked_cols : args.nr;
  const int64_t last_cols = args.n % block_cols == 0 ? block_cols : args.n % block_cols;
  plan.epilogue =
      bind_epilogue(prepared.epilogue, prepared.view, c, p.batch_axes > 0, std::min(block_cols, args.n), last_cols);
  if (p.unpacked) {
    bound.scratch = program ? unpacked_rows * unpacked_cols * 4 : 0;
  } else {
    const int64_t rows = std::min(plan.m_step, args.m), last_rows = args.m - (plan.m_parts - 1) * plan.m_step;
    const int64_t cols = std::min(plan.n_step, args.n), last_cols = args.n - (plan.n_parts - 1) * plan.n_step;
    for (int64_t m : {rows, last_rows})
      for (int64_t n : {cols, last_cols}) bound.scratch = std::max(bound.scratch, table.scratch_size(args, m, n));
    bound.scratch = align_up(bound.scratch, 64, "scratch");
  }
  plan.tile_offset = bound.scratch;
  bound.scratch = checked_add(bound.scratch, plan.epilogue.scratch, "scratch");
}

void place_result(const Launch& launch, const Epilogue& epilogue, int64_t offset, ContractArgs& args) {
  void* const c = launch.operands[launch.problem->operands.size()];
  if (epilogue.narrow)
    args.narrow_c = static_cast<uint16_t*>(c) + offset;
  else
    args.c = static_cast<float*>(c) + offset;
  if (epilogue.residual < 0) return;
  const void* const residual = launch.operands[epilogue.residual];
  if (launch.problem->types[static_cast<size_t>(epilogue.residual)].dtype == DType::bf16)
    args.narrow_residual = static_cast<const uint16_t*>(residual) + offset;
  else
    args.residual = static_cast<const float*>(residual) + offset;
}

Status run_product(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  const Product& p = plan.product;
  if (launch.phase + 1 < launch.bound->phases) {
    prepare_chunk(plan, launch);
    return {};
  }
  ContractArgs args = p.args;
  const auto* a = static_cast<const float*>(launch.operands[p.a_operand]);
  const auto* narrow_a = static_cast<const uint16_t*>(launch.operands[p.a_operand]);
  if (p.turn_a) a = reinterpret_cast<const float*>(launch.workspace + plan.turned_offset);
  const auto* b = static_cast<const float*>(launch.operands[p.b_operand]);
  if (plan.packs > 0) b = reinterpret_cast<const float*>(launch.workspace);
  const Epilogue& epilogue = plan.prepared->epilogue;
  const float* bias = epilogue.bias < 0 ? nullptr : static_cast<const float*>(launch.operands[epilogue.bias]);
  EpilogueRun epilogue_run(plan.epilogue, launch, launch.scratch + plan.tile_offset);
  args.user = &epilogue_run;
  const int64_t per_call = plan.m_parts * plan.n_parts;
  const int64_t end = std::min(plan.units, (launch.chunk + 1) * plan.units_per_chunk);
  int64_t current = -1;
  const float* b_here = b;
  for (int64_t unit = launch.chunk * plan.units_per_chunk; unit < end; ++unit) {
    if (const int64_t call = unit / per_call; call != current) {
      current = call;
      const Place place = place_of(p.call_dims, call);
      const int64_t first_col = place.dot(p.column_strides);
      // Nothing is read of an empty operand.
      if (p.narrow_a)
        args.narrow_a = narrow_a ? narrow_a + place.dot(p.a_strides) : nullptr;
      else
        args.a = a ? a + place.dot(p.a_strides) : nullptr;
      b_here = b + place.dot(p.b_strides) * (p.unpacked ? 1 : plan.matrix_size);
      args.b = b_here;
      args.bias = bias ? bias + first_col : nullptr;
      if (args.epilogue)
        epilogue_run.at(std::span(place.at.data(), p.batch_axes), first_col);
      else
        place_result(launch, epilogue, place.dot(p.c_strides) + first_col, args);
    }
    if (p.unpacked)
      run_unpacked(plan, args, b_here, unit % per_call, launch.scratch);
    else
      run_packed(plan, args, unit % per_call, launch.scratch);
  }
  return {};
}

namespace {

// The arguments of some lines of an image by themselves; `window` is theirs.
ContractArgs args_of_lines(const Plan& plan, int64_t first, int64_t count, Window& window) {
  ContractArgs args = plan.product.args;
  window = plan.product.window;
  args.m = count * window.out[2];
  if (plan.product.windowed) {
    window.out[1] = count;
    window.pad[1] -= first * window.stride[1];
    args.window = &window;
  }
  return args;
}

}  // namespace

void run_product_lines(const Launch& part, const ProductLines& lines) {
  const Plan& plan = part.bound->as<Plan>();
  const Product& p = plan.product;
  Window window;
  ContractArgs args = args_of_lines(plan, lines.first, lines.count, window);
  int64_t from = 0;  // in A
  if (!lines.held_a) {
    from = lines.image * args.image_stride;
    if (!p.windowed) from += lines.first * window.out[2] * args.lda;
  }
  const void* const a = p.turn_a ? part.workspace + plan.turned_offset : part.operands[p.a_operand];
  if (p.narrow_a)
    args.narrow_a = static_cast<const uint16_t*>(a) + from;
  else
    args.a = static_cast<const float*>(a) + from;
  args.b = static_cast<const float*>(part.operands[p.b_operand]);
  const Epilogue& epilogue = plan.prepared->epilogue;
  args.bias = epilogue.bias < 0 ? nullptr : static_cast<const float*>(part.operands[epilogue.bias]);
  EpilogueRun epilogue_run(plan.epilogue, part, part.scratch);
  args.user = &epilogue_run;
  const int64_t slice = p.window.out[1] * p.window.out[2];
  int64_t row = lines.held_c ? 0 : lines.first * p.window.out[2];
  if (args.epilogue) {
    // By image where operands of the epilogue lie so; else rows run through the images.
    if (p.batch_axes == 0 && !lines.held_c) row += lines.image * slice;
    epilogue_run.at(std::span(&lines.image, p.batch_axes), 0, row);
  } else {
    place_result(part, epilogue, ((lines.held_c ? 0 : lines.image * slice) + row) * args.ldc, args);
  }
  plan.prepared->table->chunk(args, 0, args.m, 0, args.n, part.scratch + plan.epilogue.scratch);
}

int64_t product_lines_scratch(const Bound& bound, int64_t count) {
  const Plan& plan = bound.as<Plan>();
  int64_t scratch = 0;
  for (int64_t lines = 1; lines <= count; ++lines) {
    Window window;
    const ContractArgs args = args_of_lines(plan, 0, lines, window);
    scratch = std::max(scratch, plan.prepared->table->scratch_size(args, args.m, args.n));
  }
  return align_up(checked_add(scratch, plan.epilogue.scratch, "scratch"), 64, "scratch");
}

double contraction_cost(const ContractTable& table, double rows, double columns, double depth, double bytes,
                        double numbers) {
  const int planes = planes_of(table);
  const auto moved = [&](double stored_depth) {
    constexpr double cached = 4 << 20;  // of B: read again it comes from a cache, as fast as all else
    const double of_b = panel_bytes(table.numbers) * columns * stored_depth;
    return (bytes - 4 * columns * stored_depth + of_b) / 20 +
           (of_b < cached ? 0 : of_b / table.pace.stream - of_b / 20);
  };
  // What gains little is not worth rounding weights.
  const double reluctance = rounds_weights(table) ? 1.05 : 1;
  if (planes == 0) return 1000 + reluctance * std::max(rows * columns * depth / table.pace.products, moved(depth));
  // What is padded is multiplied too; splitting A and finishing C go by the element.
  const auto up = [](double n, double unit) { return std::ceil(n / unit) * unit; };
  constexpr double terms[] = {0, 1, 3, 6};
  const Pace& pace = table.pace;
  const double of_a = up(rows, pace.rows) * up(depth, pace.depth), padded = of_a * up(columns, 16);
  const double split = pace.split * planes * (numbers > 0 ? numbers : of_a);
  const double finish = pace.finish * rows * columns;
  return 1500 + std::max(padded * terms[planes] / pace.products + split + finish, moved(up(depth, 32)));
}

std::span<const Kernel> contraction_kernels() {
  static const std::vector<Kernel> rows = [] {
    std::vector<Kernel> all(std::begin(matmul_rows), std::end(matmul_rows));
    all.insert(all.end(), std::begin(conv_rows), std::end(conv_rows));
    all.insert(all.end(), std::begin(conv_transpose_rows), std::end(conv_transpose_rows));
    all.insert(all.end(), std::begin(conv_phases_rows), std::end(conv_phases_rows));
    return all;
  }();
  return rows;
}

}  // namespace sinter::cpu
