// Attention: two products and the softmax between them, a block of rows at a time.
//
// K and V become panels: of one head at a time in the thread's scratch where heads keep all threads busy, else all of
// them in a first phase. Scores are computed, finished by a tile program and multiplied while they are in cache. Every
// element goes through the same operations in the same order, however blocks, heads and threads are cut.
//
// On tiles a softmax divides by its sums behind the second product: no weight is above 1 and one of each row is 1, so
// only values beyond the largest f32 over the number of keys can overflow where weights that add up to 1 would not.

#include <fmt/core.h>

#include <algorithm>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/attention_plan.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/views.h"
#include "base/checked.h"
#include "ops/movement.h"

namespace sinter::cpu {
namespace attention {
namespace {

constexpr int64_t few_rows = 8;            // of queries: keys and values are read once, as they lie
constexpr int64_t block_bytes = 64 << 10;  // of scores, about
constexpr int64_t block_unit = 32;         // rows
constexpr int64_t pack_bytes = 128 << 10;  // of a chunk that packs

// The products of blocks in cache that belong to loops; null where these do all by themselves.
const AttentionTable* tile_products(const ContractTable& table) {
#ifdef SINTER_X86
  if (&table == &contract_avx512_bf16) return &attention_avx512_bf16;
  if (&table == &contract_amx_bf16) return &attention_amx_bf16;
  if (&table == &contract_amx_bf16x3) return &attention_amx_bf16x3;
  if (&table == &contract_amx_bf16x6) return &attention_amx_bf16x6;
#endif
  (void)table;
  return nullptr;
}

// Which band makes a value, or -1.
int band_number(const Problem& problem, const AttentionForm& form, uint16_t value) {
  for (size_t i = 0; i < form.bands.size(); ++i)
    if (problem.first_result[form.bands[i]] == value) return static_cast<int>(i);
  return -1;
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.size() < 3) return Answer::no("not an attention");
  AttentionForm form;
  if (Answer a = find_attention(problem, form); !a) return a;
  for (size_t s : {form.first, form.second})
    if (Answer a = accurate_enough(kernel, device, problem.stages[s].attrs.as<MatMulAttrs>().numerics); !a) return a;
  const bool narrow = takes_bf16(*table_of(kernel, device));
  for (uint16_t v : {form.q, form.k, form.v}) {
    if (Answer a = view_supported(problem, v, 2); !a) return a;
    if (!narrow && problem.types[viewed_operand(problem, v)].dtype != DType::f32)
      return Answer::no("a factor of bf16 in a row that does not round to it");
  }
  if (!narrow && form.rounds) return Answer::no("a result of bf16 in a row that does not round to it");
  if (!strided_or_any(problem.results[0].layout)) return Answer::no("the result is packed");
  std::vector<uint16_t> sources;
  const Problem between = problem_between(problem, form, sources);
  if (Answer a = stages_supported(between, 0, true); !a) return a;
  for (size_t i = 1; i < sources.size(); ++i) {
    if (between.operands[i].host || band_number(problem, form, sources[i]) >= 0) continue;
    if (Answer a = view_supported(problem, sources[i], 2); !a) return a;
    if (problem.types[sources[i]].dtype != problem.types[viewed_operand(problem, sources[i])].dtype)
      return Answer::no("an operand between the products is cast");
    if (problem.types[sources[i]].shape->size() > problem.types[form.weights].shape->size())
      return Answer::no("an operand of a higher rank than the scores");
  }
  if (form.bands.size() > max_bands) return Answer::no("too many bands");
  if (sources.size() + 3 > max_buffers) return Answer::no("too many operands");
  return Answer::yes();
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  AttentionForm form;
  if (!find_attention(problem, form)) return 0;
  const auto extent = [&](uint16_t v, size_t back) {
    const Shape& shape = *problem.types[v].shape;
    return static_cast<double>(std::max<int64_t>(1, shape[shape.size() - back].evaluate(symbols)));
  };
  const double depth = extent(form.q, 1), keys = extent(form.weights, 1), columns = extent(form.y, 1);
  const double y = elements_at(problem.types[form.y], symbols), weights = y / columns * keys;
  const ContractTable& table = *table_of(kernel, device);
  return contraction_cost(table, weights / keys, keys, depth, 4 * elements_at(problem.types[form.k], symbols)) +
         contraction_cost(table, y / columns, columns, keys, 4 * elements_at(problem.types[form.v], symbols)) +
         0.5 * static_cast<double>(form.between.size()) * weights;
}

// ---- how everything lies ----

// An operand over the axes [batch..., rows, columns] of extents `whole`: axes of extent 1 repeat.
Part spread_over(const StridedView& view, const Dims& whole, int64_t width, uint16_t argument) {
  if (view.dims.size() > whole.size())
    throw Error(Code::invalid_argument, "an operand of an attention has a higher rank than its scores");
  const Dims none(whole.size() - 2, 0);
  Part part{argument, width, view.offset, none, none, none, 0, 0};
  const size_t rank = view.dims.size(), lead = whole.size() - rank;
  for (size_t k = 0; k < rank; ++k) {
    if (view.dims[k] != 1 && view.dims[k] != whole[lead + k])
      throw Error(Code::invalid_argument, "the operands of an attention do not fit together");
    if (view.dims[k] == 1) continue;
    if (lead + k + 2 < whole.size()) {
      part.batch[lead + k] = view.strides[k];
      part.inner[lead + k] = view.inner[k];
      part.outer[lead + k] = view.outer[k];
    } else {
      (lead + k + 2 == whole.size() ? part.row : part.col) = view.strides[k];
    }
  }
  return part;
}

Part spread_over(const BindContext& c, uint16_t value, const Dims& whole) {
  const StridedView view = strided_view(c, value);
  return spread_over(view, whole, bit_size(c.problem.types[view.operand].dtype) / 8, view.operand);
}

// [.., a, b] with the last axes of these extents.
Dims matrices_of(const Dims& batch, int64_t a, int64_t b) {
  Dims out = batch;
  out.push_back(a);
  out.push_back(b);
  return out;
}

std::vector<Spread> spreads_of(const std::vector<Part>& parts) {
  std::vector<Spread> out;
  for (const Part& p : parts)
    out.push_back(p.col != 0 ? (p.row != 0 ? Spread::full : Spread::column)
                             : (p.row != 0 ? Spread::row : Spread::scalar));
  return out;
}

// The result of the second product: strides over its axes in the problem's result, which may be a view of it.
StridedView result_view(const BindContext& c, const AttentionForm& form) {
  const Problem& problem = c.problem;
  StridedView view(0, c.results[0]);
  if (product(view.dims) != 0) view.strides = layout_strides(problem.results[0].layout, view.dims);
  for (size_t i = form.behind.size(); i-- > 0;) {
    const Stage& stage = problem.stages[form.behind[i]];
    const Dims dims = evaluate(*problem.types[stage.inputs[0]].shape, c.symbols);
    if (!is_op(stage, "Transpose")) {
      view = regrouped(view, dims);
      continue;
    }
    const std::vector<int64_t>& perm = stage.attrs.as<TransposeAttrs>().perm;
    StridedView before(0, dims);
    const size_t rank = dims.size();
    for (size_t k = 0; k < rank; ++k) {
      int64_t p = perm.empty() ? static_cast<int64_t>(rank - 1 - k) : perm[k];
      if (p < 0) p += static_cast<int64_t>(rank);
      const auto to = static_cast<size_t>(p);
      before.strides[to] = view.strides[k];
      before.inner[to] = view.inner[k];
      before.outer[to] = view.outer[k];
    }
    view = std::move(before);
  }
  return view;
}

Factor factor_of(const ContractTable& table, Part part, const Dims& batch, int64_t k, int64_t n, int64_t k_stride,
                 int64_t n_stride) {
  Factor f;
  f.pack = {.src = nullptr,
            .k_stride = k_stride,
            .n_stride = n_stride,
            .taps = 1,
            .k = k,
            .n = n,
            .nr = table.panel_width(n)};
  f.floats = align_up(table.packed_size(1, k, n, f.pack.nr, 1), 16, "panels");
  f.index.assign(batch.size(), 0);
  f.extents.assign(batch.size(), 1);
  for (size_t a = batch.size(); a-- > 0;) {
    if (part.batch[a] == 0 && part.outer[a] == 0) continue;
    f.index[a] = f.matrices;
    f.extents[a] = batch[a];
    f.matrices = checked_mul(f.matrices, batch[a], "matrices");
  }
  const int64_t panels = ceil_div(n, f.pack.nr);
  f.panels = std::clamp<int64_t>(pack_bytes / std::max<int64_t>(1, checked_mul(k, f.pack.nr * 4, "panel")), 1,
                                 std::max<int64_t>(1, panels));
  f.packs = ceil_div(panels, f.panels);
  f.part = std::move(part);
  return f;
}

// Rows of a block: scores stay in the second-level cache, and there are enough blocks for all threads.
int64_t block_rows(const Plan& plan, int64_t least_blocks) {
  int64_t limit = std::max<int64_t>(block_unit, block_bytes / 4 / plan.ld / block_unit * block_unit);
  limit = std::min(limit, std::max<int64_t>(block_unit, ceil_div(plan.m, least_blocks)));
  const int64_t blocks = ceil_div(plan.m, limit);
  return std::min(plan.m, align_up(ceil_div(plan.m, blocks), block_unit));
}

std::shared_ptr<const TileExecutor> executor_for(const StageProgram& stages, const std::vector<Spread>& spreads,
                                                 uint8_t level) {
  TileProgram program = stages.program;
  for (size_t i = 0; i < spreads.size(); ++i) program.operands[i].spread = spreads[i];
  return make_executor(program, level);
}

// Program operands; the scores themselves are a dense block, and so is what bands make.
std::vector<Part> program_parts(const Between& between, const AttentionForm& form, const BindContext& c,
                                const Dims& whole) {
  std::vector<Part> parts;
  for (uint16_t operand : between.stages.operands) {
    const int band = band_number(c.problem, form, between.sources[operand]);
    if (band >= 0) {
      const Dims own = evaluate(*c.problem.types[between.sources[operand]].shape, c.symbols);
      const auto along = [&](size_t back) -> int64_t {
        const int64_t extent = own[own.size() - back], wanted = whole[whole.size() - back];
        if (extent != 1 && extent != wanted)
          throw Error(Code::invalid_argument, "the operands of an attention do not fit together");
        return extent == wanted ? 1 : 0;
      };
      parts.push_back({0, 1, 0, {}, {}, {}, along(2), along(1), band});
      continue;
    }
    parts.push_back(operand == 0 ? Part{0, 4, 0, {}, {}, {}, 1, 1} : spread_over(c, between.sources[operand], whole));
  }
  return parts;
}

Band band_of(const BindContext& c, size_t stage, const Dims& whole) {
  Band band;
  const std::vector<uint16_t>& inputs = c.problem.stages[stage].inputs;
  const auto bound = [&](size_t i, std::optional<Part>& to) {
    if (i >= inputs.size() || inputs[i] == absent_operand) return;
    to = spread_over(c, inputs[i], whole);
    if (to->row != 0 || to->col != 0) throw Error(Code::invalid_argument, "a band has one bound for each matrix");
  };
  bound(1, band.first);
  bound(2, band.last);
  return band;
}

// whole: of the weights.
void compile(Between& between, const Shape& whole, uint8_t level) {
  std::vector<bool> row_valued(between.problem.types.size(), false);
  for (size_t r = 1; r < between.problem.results.size(); ++r) row_valued[between.problem.results[r].value] = true;
  between.stages = compile_stages(between.problem, 0, std::nullopt, row_valued);
  between.stages.program.results[0].spread = Spread::full;
  // Binding finds out whether masks lie otherwise than their types say.
  for (size_t i = 0; i < between.stages.operands.size(); ++i) {
    const Shape& shape = *between.problem.operands[between.stages.operands[i]].type.shape;
    const auto varies = [&](size_t back) { return shape.size() >= back && shape[shape.size() - back] != Dim(1); };
    const bool full = between.stages.operands[i] == 0;
    const bool col = full || varies(1), row = full || (varies(2) && whole.size() >= 2);
    between.stages.program.operands[i].spread =
        col ? (row ? Spread::full : Spread::column) : (row ? Spread::row : Spread::scalar);
  }
  between.executor = make_executor(between.stages.program, level);
}

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  auto out = std::make_shared<Prepared>();
  out->table = table_of(kernel, device);
  out->tiles = tile_products(*out->table);
  if (Answer a = find_attention(problem, out->form); !a) throw Error(Code::internal, a.reason());
  out->level = device.level;
  const Shape& whole = *problem.types[out->form.weights].shape;
  out->between.problem = problem_between(problem, out->form, out->between.sources);
  compile(out->between, whole, device.level);
  if (!out->tiles) return out;
  Between& open = out->open;
  open.problem = problem_between(problem, out->form, out->tiles->planes == 1, open.sums, open.sources);
  compile(open, whole, device.level);
  return out;
}

// Heads of one query each that share keys and values become rows of one head: those are then read once. `share` of them
// are next to each other on the last batch axis of more than one head. Not where that leaves threads without work.
void heads_as_rows(Plan& p, Part& k, Part& v, int threads) {
  size_t a = p.batch.size();
  while (a > 0 && p.batch[a - 1] == 1) --a;
  if (p.m != 1 || a-- == 0) return;
  const auto shared = [&](const Part& x) { return x.batch[a] != 0 ? 1 : x.inner[a] != 0 ? x.inner[a] : p.batch[a]; };
  const int64_t share = shared(k);
  if (share == 1 || share != shared(v) || p.heads / share < threads) return;
  std::vector<Part*> parts = {&p.q, &p.y, &k, &v, &p.fill};
  for (Part& part : p.parts) parts.push_back(&part);
  for (Band& band : p.bands)
    for (std::optional<Part>* bound : {&band.first, &band.last}) {
      if (!*bound) continue;
      if ((*bound)->batch[a] != 0) return;  // rows of one mask have the same bounds
      parts.push_back(&**bound);
    }
  parts.erase(std::remove_if(parts.begin(), parts.end(), [](const Part* x) { return x->batch.empty(); }), parts.end());
  for (const Part* x : parts)
    if (x->inner[a] != 0 && x->inner[a] != share) return;
  for (Part* x : parts) {
    x->row = x->batch[a];
    x->batch[a] = x->inner[a] != 0 ? x->outer[a] : x->batch[a] * share;
    x->inner[a] = x->outer[a] = 0;
  }
  k.row = v.row = 0;  // of a matrix: told by PackArgs
  for (Part& part : p.parts)
    if (part.band >= 0) part.row = 0;
  p.batch[a] /= share;
  p.heads /= share;
  p.m = share;
}

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const Prepared*>(prepared_pointer);
  const AttentionForm& form = prepared.form;
  const ContractTable& table = *prepared.table;
  Plan& p = emplace<Plan>(bound);
  p.prepared = &prepared;
  bound.chunks[0] = 0;
  const auto dims_of = [&](uint16_t v) { return evaluate(*c.problem.types[v].shape, c.symbols); };
  const Dims weights = dims_of(form.weights), q = dims_of(form.q), k = dims_of(form.k), v = dims_of(form.v);
  const StridedView y = result_view(c, form);
  if (product(y.dims) == 0) return;
  const auto back = [](const Dims& dims, size_t i) { return dims[dims.size() - i]; };
  p.batch.assign(y.dims.begin(), y.dims.end() - 2);
  p.heads = product(p.batch);
  p.m = back(weights, 2);
  p.n = back(weights, 1);
  p.depth = back(q, 1);
  p.d = back(y.dims, 1);
  if (back(k, form.transpose_k ? 1 : 2) != p.depth || back(v, form.transpose_v ? 1 : 2) != p.n ||
      back(y.dims, 2) != p.m || weights.size() > y.dims.size())
    throw Error(Code::invalid_argument, "the operands of an attention do not fit together");
  p.q = spread_over(c, form.q, matrices_of(p.batch, p.m, p.depth));
  p.y = spread_over(y, y.dims, form.rounds ? 2 : 4, static_cast<uint16_t>(c.problem.operands.size()));
  Part kp = spread_over(c, form.k,
                        form.transpose_k ? matrices_of(p.batch, p.n, p.depth) : matrices_of(p.batch, p.depth, p.n));
  Part vp = spread_over(c, form.v, form.transpose_v ? matrices_of(p.batch, p.d, p.n) : matrices_of(p.batch, p.n, p.d));
  const int64_t k_col = kp.col, k_row = kp.row, v_col = vp.col, v_row = vp.row;
  const auto direct = [](const Part& part) { return part.width == 4 && (part.row == 1 || part.col == 1); };
  p.unpacked = p.m <= few_rows && direct(kp) && direct(vp);
  p.tiled = prepared.tiles && !p.unpacked && p.n > 0 && p.depth > 0;
  p.between = p.tiled ? &prepared.open : &prepared.between;
  const Dims whole = matrices_of(p.batch, p.m, p.n);
  p.parts = program_parts(*p.between, form, c, whole);
  for (size_t stage : form.bands) p.bands.push_back(band_of(c, stage, whole));
  // Products over planes that are not on tiles have no part of their sums alone.
  p.hides = form.hidden && (p.tiled || p.unpacked || planes_of(table) == 0);
  for (const Part& part : p.parts)
    // What repeats along the keys is no diagonal.
    if (part.band >= 0 && form.hidden && form.hidden->band == static_cast<size_t>(part.band))
      p.hides = p.hides && part.col != 0;
  if (p.hides) p.fill = spread_over(c, form.hidden->fill, whole);
  if (p.unpacked) heads_as_rows(p, kp, vp, c.threads);
  for (const Part& part : p.parts)
    if (part.band >= 0) p.bands[static_cast<size_t>(part.band)].one_row = part.row == 0;
  p.k = factor_of(table, std::move(kp), p.batch, p.depth, p.n, form.transpose_k ? k_col : k_row,
                  form.transpose_k ? k_row : k_col);
  p.v = factor_of(table, std::move(vp), p.batch, p.n, p.d, form.transpose_v ? v_col : v_row,
                  form.transpose_v ? v_row : v_col);
  const std::vector<Spread> spreads = spreads_of(p.parts);
  bool expected = true;
  for (size_t i = 0; i < spreads.size(); ++i)
    expected = expected && spreads[i] == p.between->stages.program.operands[i].spread;
  p.executor = expected ? p.between->executor : executor_for(p.between->stages, spreads, prepared.level);

  p.ld = align_up(std::max<int64_t>(p.n, 1), 16, "scores");
  // Rows a multiple of a page apart would lie in few sets of the cache.
  if (p.ld % 1024 == 0) p.ld += 16;
  // Rows on tiles take bf16 as it lies and make it; others widen it before and round behind.
  p.copies_q = (p.q.col != 1 && p.depth > 1) || (!p.tiled && p.q.width == 2);
  p.copies_y = (p.y.col != 1 && p.d > 1) || (!p.tiled && p.y.width == 2);
  const int64_t wanted = c.threads <= 1 ? 1 : 4 * static_cast<int64_t>(c.threads);
  p.local = p.heads >= wanted;
  p.rows = block_rows(p, p.local ? 1 : ceil_div(wanted, p.heads));
  p.blocks = ceil_div(p.m, p.rows);

  int64_t scratch = 0;
  const auto take = [&](int64_t floats) {
    const int64_t at = scratch;
    scratch = checked_add(scratch, align_up(byte_size(DType::f32, floats), 64, "scratch"), "scratch");
    return at;
  };
  if (!p.unpacked && p.local) {
    p.panels_offset = take(p.k.floats);
    p.v_offset = take(p.v.floats);
  } else if (!p.unpacked) {
    p.v_offset = byte_size(DType::f32, checked_mul(p.k.matrices, p.k.floats, "panels"));
    p.finite_offset =
        checked_add(p.v_offset, byte_size(DType::f32, checked_mul(p.v.matrices, p.v.floats, "panels")), "panels");
    bound.workspace =
        checked_add(p.finite_offset, p.hides ? checked_mul(p.v.matrices, p.v.packs, "panels") : 0, "panels");
  }
  // Tiles are whole.
  const int64_t rows = p.tiled ? align_up(p.rows, 16, "rows") : p.rows;
  p.scores_offset = take(checked_mul(rows, p.ld, "scores"));
  // Bytes of each band: of diagonals, as rows see them one place further each.
  p.band_size = align_up(checked_add(p.n, p.rows, "band"), 64, "band");
  p.bands_offset = take(checked_mul(static_cast<int64_t>(p.bands.size()), p.band_size / 4, "bands"));
  p.largest_offset = take(form.hidden ? rows : 0);
  if (p.copies_q) p.q_offset = take(checked_mul(p.rows, p.depth, "queries"));
  if (p.tiled) {
    const int64_t planes = prepared.tiles->planes;
    const int64_t q_steps = ceil_div(p.depth, 32), steps = ceil_div(p.n, 32);
    p.planes_offset = take(checked_mul(checked_mul(rows, q_steps, "queries"), planes * 16, "queries"));
    p.weights_ld = checked_mul(steps, 32, "weights");
    if (planes == 1) {
      if (p.weights_ld % 1024 == 0) p.weights_ld += 32;
      p.weights_offset = take(checked_mul(rows, p.weights_ld / 2, "weights"));
    } else {
      p.weights_offset = take(checked_mul(turn_rows, checked_mul(steps, planes * 16, "weights"), "weights"));
    }
    p.sums_offset = take(rows);
    p.y_ld = align_up(p.d, 16, "rows");
    if (p.y_ld % 1024 == 0) p.y_ld += 16;
    p.y_offset = take(checked_mul(turn_rows, p.y_ld, "rows"));
    if (p.copies_y) p.copy_offset = take(checked_mul(turn_rows, p.y_ld, "rows"));
  } else if (p.copies_y) {
    p.y_offset = take(checked_mul(p.rows, p.d, "rows"));
  }
  // The program and the products do not run at the same time.
  ContractArgs first, second;
  first.m = second.m = p.rows;
  first.n = p.n;
  first.k = p.depth;
  first.nr = p.k.pack.nr;
  second.n = p.d;
  second.k = p.n;
  second.nr = p.v.pack.nr;
  ContractArgs panel = second;  // where keys are hidden, panels are multiplied one by one
  panel.n = std::min<int64_t>(p.d, second.nr);
  int64_t shared = tile_scratch(*p.executor, p.n);
  const int64_t last = p.m - (p.blocks - 1) * p.rows;
  for (const ContractArgs& args : {first, second, panel})
    // Whole blocks; rows that a product on tiles spoilt are made again turn_rows at a time.
    for (int64_t rows : {p.rows, last, std::min(p.rows, turn_rows), p.rows % turn_rows, last % turn_rows})
      if (rows > 0) shared = std::max(shared, table.scratch_size(args, rows, args.n));
  p.tile_offset = scratch;
  bound.scratch = checked_add(scratch, align_up(shared, 64, "scratch"), "scratch");

  if (p.local) {
    p.chunks = std::min(p.heads, c.threads <= 1 ? 1 : 6 * static_cast<int64_t>(c.threads));
  } else {
    p.chunks = checked_mul(p.heads, p.blocks, "blocks");
  }
  const int64_t packs = p.k.matrices * p.k.packs + p.v.matrices * p.v.packs;
  const bool first_phase = !p.local && !p.unpacked && packs > 0;
  bound.phases = first_phase ? 2 : 1;
  if (first_phase) bound.chunks[0] = packs;
  bound.chunks[bound.phases - 1] = p.chunks;
}

constexpr Kernel row(const char* name, const PanelNumbers* numbers) {
  return {.name = name,
          .self = numbers,
          .supports = supports,
          .needs = settled_needs,
          .cost = cost,
          .prepare = prepare,
          .bind = bind,
          .run = run_attention};
}

}  // namespace
}  // namespace attention

using attention::row;

const Kernel attention_rows[4] = {
    row("attention_f32", &row_of<PanelNumbers::plain>), row("attention_bf16", &row_of<PanelNumbers::planes1>),
    row("attention_bf16x3", &row_of<PanelNumbers::planes2>), row("attention_bf16x6", &row_of<PanelNumbers::planes3>)};

std::span<const Kernel> attention_kernels() { return attention_rows; }

}  // namespace sinter::cpu
