// Chains of convolutions made depth first: dense (any window) → depthwise → 1x1, or two of them that follow each other,
// each with the pointwise stages behind it. Images are channels last.
//
// A chunk is a band of the depthwise convolution's lines, made some lines at a time: the dense convolution's lines that
// these reach are made in scratch, on top of those that the last step left, then the depthwise lines of them, then the
// 1x1 products of those. So wide values between the convolutions stay in the second-level cache. Each part is a
// problem of its own that its own row judges, prepares and binds; only the loop over lines is here. Lines at the border
// of two chunks are made twice, so bits do not depend on how bands are cut. Where images have so few lines for the
// threads that these would mostly make each other's, or have nothing to do, the parts run one after the other, each on
// all threads; nor do bits depend on that.

#include <array>
#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/spatial.h"
#include "backend/cpu/kernels/stages.h"
#include "base/checked.h"
#include "ops/contraction.h"

namespace sinter::cpu {
namespace {

// Lines of the dense convolution that are held at a time leave room in the second-level cache for planes and results.
constexpr int64_t held_bytes = 384 << 10, held_lines = 128;
// What a chain saves, of the bytes between its convolutions: those that the cache holds anyway cost little.
constexpr double cached_bytes = 512 << 10, saved_per_byte = 0.04;
constexpr double narrow_cached_bytes = 1 << 20, saved_per_narrow_byte = 0.015;
constexpr size_t max_values = 72;  // operands and results of a part

enum class Role : uint8_t { dense, depthwise, pointwise };

struct Part {
  Role role;
  const Kernel* row;
  Problem problem;                // operand 0 is the value before, unless this is the first part
  std::vector<uint16_t> sources;  // values of the whole problem behind its operands
};

bool is_depthwise(const Problem& problem, const Stage& stage) {
  const Shape& w = *problem.types[stage.inputs[1]].shape;
  return w[0] == Dim(stage.attrs.as<ConvAttrs>().group) && w[1] == Dim(1);
}

bool all(const std::vector<int64_t>& values, int64_t value) {
  return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == value; });
}

// One product per pixel.
bool is_pointwise(const Problem& problem, const Stage& stage) {
  const Shape& w = *problem.types[stage.inputs[1]].shape;
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  return attrs.group == 1 && w[2] == Dim(1) && w[3] == Dim(1) && all(attrs.strides, 1) && all(attrs.pads, 0);
}

// Operands of the pointwise stages of a part that is not stored: a value per column, so that blocks need no place.
Answer columns_only(const Part& part) {
  for (size_t i = 0; i < part.problem.operands.size(); ++i) {
    if (!in_epilogue(part.problem, i)) continue;
    const Shape& shape = *part.problem.operands[i].type.shape;
    for (size_t k = 0; k < shape.size(); ++k)
      if (shape.size() - k != 3 && shape[k] != Dim(1))
        return Answer::no("an operand between the convolutions varies over pixels");
  }
  return Answer::yes();
}

// Where the parts begin. Refuses what is no chain, so that the stages can be taken apart.
Answer find_parts(const Problem& problem, std::vector<size_t>& begins) {
  for (size_t s = 0; s < problem.stages.size(); ++s)
    if (is_op(problem.stages[s], "Conv")) begins.push_back(s);
  if (begins.size() < 2 || begins.size() > 3 || begins[0] != 0) return Answer::no("not two or three convolutions");
  if (Answer a = plain_problem(problem); !a) return a;
  if (problem.results.size() != 1) return Answer::no("not one result");
  // Each part reads what the one before leaves last, and nothing else that was made.
  std::vector<size_t> reader(problem.types.size(), SIZE_MAX);  // part that reads an operand
  size_t part = 0;
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    if (part + 1 < begins.size() && s == begins[part + 1]) ++part;
    const Stage& stage = problem.stages[s];
    const bool head = s == begins[part];
    if (stage.outputs != 1 || !problem.types[problem.first_result[s]].is_plain())
      return Answer::no("a stage makes more than one tensor");
    if (head &&
        (stage.inputs.size() < 2 || stage.inputs[0] == absent_operand || stage.inputs[1] >= problem.operands.size() ||
         problem.types[stage.inputs[0]].shape->size() != 4 || problem.types[stage.inputs[1]].shape->size() != 4))
      return Answer::no("only two spatial axes");
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      const uint16_t v = stage.inputs[i];
      if (v == absent_operand) continue;
      const bool link = head && i == 0 && part > 0;
      if (v >= problem.operands.size()) {
        const size_t made = static_cast<size_t>(v) - problem.operands.size();
        if (link ? made + 1 != s : made < begins[part]) return Answer::no("the convolutions do not follow each other");
        continue;
      }
      if (link) return Answer::no("the convolutions do not follow each other");
      // Parts may want an operand in two layouts.
      if (reader[v] != SIZE_MAX && (reader[v] != part || head) && (head || !problem.types[v].shape->empty()))
        return Answer::no("two convolutions read an operand");
      reader[v] = part;
    }
  }
  if (problem.results[0].value != problem.first_result.back()) return Answer::no("an inner value is a result");
  return Answer::yes();
}

// Precondition: find_parts. The parts of a chain for a row with these loops.
Answer make_parts(const Kernel& kernel, const Problem& problem, const std::vector<size_t>& begins,
                  std::vector<Part>& parts) {
  const auto* const conv = static_cast<const Kernel*>(kernel.self);
  const Layout last = Layout::channels_last(4);
  for (size_t p = 0; p < begins.size(); ++p) {
    const Stage& head = problem.stages[begins[p]];
    Part part{is_depthwise(problem, head) ? Role::depthwise : p == 0 ? Role::dense : Role::pointwise, conv, {}, {}};
    if (part.role == Role::depthwise) part.row = &depthwise_row;
    if (part.role == Role::pointwise && !is_pointwise(problem, head)) return Answer::no("more than one pixel behind");
    std::vector<size_t> stages;
    const size_t end = p + 1 < begins.size() ? begins[p + 1] : problem.stages.size();
    for (size_t s = begins[p]; s < end; ++s) stages.push_back(s);
    part.problem = part_of(problem, stages, problem.first_result[end - 1], part.sources);
    if (p > 0) part.problem.operands[0].layout = last;
    part.problem.results[0].layout = end == problem.stages.size() ? problem.results[0].layout : last;
    parts.push_back(std::move(part));
  }
  const size_t middle = parts[0].role == Role::dense ? 1 : 0;
  for (size_t p = 0; p < parts.size(); ++p)
    if ((parts[p].role == Role::depthwise) != (p == middle)) return Answer::no("no depthwise convolution in its place");
  return Answer::yes();
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  std::vector<size_t> begins;
  if (Answer a = find_parts(problem, begins); !a) return a;
  std::vector<Part> parts;
  if (Answer a = make_parts(kernel, problem, begins, parts); !a) return a;
  for (size_t p = 0; p < parts.size(); ++p) {
    const Part& part = parts[p];
    if (part.problem.operands.size() + 1 > max_values) return Answer::no("too many operands");
    if (Answer a = part.row->supports(*part.row, part.problem, device); !a) return a;
    if (p + 1 < parts.size())
      if (Answer a = columns_only(part); !a) return a;
    if (part.role == Role::depthwise) continue;
    const Operand& weights = part.problem.operands[part.problem.stages[0].inputs[1]];
    for (const Dim& d : *weights.type.shape)
      if (!d.is_constant()) return Answer::no("the extents of the weights are known only at run time");
    if (part.problem.stages[0].attrs.as<ConvAttrs>().group != 1) return Answer::no("groups");
    if (weights.layout.kind != Layout::Kind::conv_panels &&
        !(weights.layout.kind == Layout::Kind::any && weights.constant))
      return Answer::no("the weights are computed");
  }
  return Answer::yes();
}

std::vector<Part> parts_of(const Kernel& kernel, const Problem& problem) {
  std::vector<size_t> begins;
  std::vector<Part> parts;
  Answer a = find_parts(problem, begins);
  if (a) a = make_parts(kernel, problem, begins, parts);
  if (!a) throw Error(Code::internal, a.reason());
  return parts;
}

Needs needs(const Kernel& kernel, const Problem& problem, const Config& config, const DeviceSpec& device) {
  Needs out;
  out.operands.resize(problem.operands.size());
  for (const Part& part : parts_of(kernel, problem)) {
    Needs own = part.row->needs(*part.row, part.problem, config, device);
    for (size_t i = 0; i < part.sources.size(); ++i)
      if (part.sources[i] < out.operands.size()) out.operands[part.sources[i]] = std::move(own.operands[i]);
    out.results = std::move(own.results);
  }
  return out;
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  double apart = 0, between = 0;
  const std::vector<Part> parts = parts_of(kernel, problem);
  for (const Part& part : parts) {
    apart += part.row->cost(*part.row, part.problem, symbols, device);
    if (&part != &parts.back()) between += 4 * elements_at(part.problem.types[part.problem.first_result[0]], symbols);
  }
  const bool narrow = device.level >= avx512_bf16 && problem.stages[0].attrs.as<ConvAttrs>().numerics == Numerics::bf16;
  // Values between convolutions are bf16 then, apart or not. What is worth it is the wide image that a 1x1 makes.
  if (narrow && (is_depthwise(problem, problem.stages[0]) || !is_pointwise(problem, problem.stages[0]))) return apart;
  const double saved =
      narrow ? saved_per_narrow_byte * (between / 2 - narrow_cached_bytes) : saved_per_byte * (between - cached_bytes);
  return std::max(apart / 2, apart - saved);
}

struct PreparedPart : Part {
  std::shared_ptr<const void> prepared;
};
using Prepared = std::vector<PreparedPart>;

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config& config,
                                    const DeviceSpec& device) {
  auto out = std::make_shared<Prepared>();
  for (Part& part : parts_of(kernel, problem)) out->push_back({std::move(part), nullptr});
  for (PreparedPart& part : *out) part.prepared = part.row->prepare(*part.row, part.problem, config, device);
  return out;
}

struct Plan {
  const Prepared* parts;
  std::array<Bound, 3> bounds;
  size_t middle;               // the depthwise part
  int64_t lines, in_lines;     // of its result and its operand
  int64_t stride, pad, reach;  // lines
  int64_t step;                // lines of the result that are made at a time
  int64_t lines_per_chunk, chunks_per_image;
  int64_t held_line;        // bytes of a line that is held
  bool nothing_held;        // the operand of the depthwise part is empty
  bool one_by_one = false;  // the parts follow each other, and what they leave is in the workspace
  std::array<int64_t, 3> workspaces = {}, left = {};  // then: offsets into the workspace of a part's own and its result
  int64_t block_offset = 0, part_offset = 0;          // bytes into the scratch; lines that are held come first
};

// Lines of the operand that lines [first, last) reach.
struct Reached {
  int64_t begin, end;
};
Reached reached(const Plan& plan, int64_t first, int64_t last) {
  const int64_t begin = std::clamp<int64_t>(first * plan.stride - plan.pad, 0, plan.in_lines);
  const int64_t end = std::clamp<int64_t>((last - 1) * plan.stride - plan.pad + plan.reach, begin, plan.in_lines);
  return {begin, end};
}

// Binds the parts by themselves. Extents of what each makes.
std::array<Dims, 3> bind_parts(Plan& plan, const BindContext& c, int threads) {
  const Prepared& parts = *plan.parts;
  std::array<Dims, 3> made;
  for (size_t p = 0; p < parts.size(); ++p) {
    const PreparedPart& part = parts[p];
    std::vector<Dims> operands;
    for (uint16_t v : part.sources) operands.push_back(v < c.operands.size() ? c.operands[v] : made[p - 1]);
    for (const Dim& d : *part.problem.types[part.problem.results[0].value].shape)
      made[p].push_back(d.evaluate(c.symbols));
    const std::vector<const Tensor*> host(operands.size(), nullptr);
    const BindContext own{part.problem, c.symbols, operands, std::span(&made[p], 1), host, threads};
    plan.bounds[p] = Bound();
    part.row->bind(*part.row, part.prepared.get(), own, plan.bounds[p]);
  }
  return made;
}

// Whether threads that share the bands make half as many lines again as if each line were made once and all had as many
// to make. Lines that nobody makes here, but that are the chain's operand, are read twice for nothing.
bool bands_fail(const Plan& plan, int64_t chunks, int64_t images, int64_t threads) {
  int64_t most = plan.lines_per_chunk, all = plan.lines;
  if (plan.middle > 0) {
    most = 0;
    all = plan.in_lines;
    for (int64_t first = 0; first < plan.lines; first += plan.lines_per_chunk) {
      const Reached there = reached(plan, first, std::min(plan.lines, first + plan.lines_per_chunk));
      most = std::max(most, there.end - there.begin);
    }
  }
  const double busiest = static_cast<double>(most) * static_cast<double>(ceil_div(chunks, threads));
  return busiest * static_cast<double>(threads) > 1.5 * static_cast<double>(images) * static_cast<double>(all);
}

void bind_one_by_one(Plan& plan, const BindContext& c, Bound& bound) {
  plan.one_by_one = true;
  const std::array<Dims, 3> made = bind_parts(plan, c, c.threads);
  bound.phases = 0;
  bound.workspace = bound.scratch = 0;
  for (size_t p = 0; p < plan.parts->size(); ++p) {
    const Bound& own = plan.bounds[p];
    const Problem& problem = (*plan.parts)[p].problem;
    for (int phase = 0; phase < own.phases; ++phase) {
      // Weights are panels, so that at most a picture is turned around first.
      if (bound.phases == Bound::max_phases) throw Error(Code::internal, "a chain of convolutions has too many phases");
      bound.chunks[bound.phases++] = own.chunks[phase];
    }
    bound.scratch = std::max(bound.scratch, own.scratch);
    const auto place = [&](int64_t bytes) {
      const int64_t at = align_up(bound.workspace, 64, "workspace");
      bound.workspace = checked_add(at, bytes, "workspace");
      return at;
    };
    plan.workspaces[p] = place(own.workspace);
    if (p + 1 < plan.parts->size())
      plan.left[p] = place(byte_size(problem.types[problem.results[0].value].dtype, product(made[p])));
  }
}

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const Prepared& parts = *static_cast<const Prepared*>(prepared_pointer);
  Plan& plan = emplace<Plan>(bound);
  plan.parts = &parts;
  plan.middle = parts[0].role == Role::dense ? 1 : 0;
  const std::array<Dims, 3> made = bind_parts(plan, c, 1);
  bound.chunks[0] = 0;
  const Dims& y = made[plan.middle];
  const PreparedPart& depthwise = parts[plan.middle];
  const size_t last = parts.size() - 1;
  if (product(made[last]) == 0 || product(y) == 0) return;
  const Window& window = depthwise_window(plan.bounds[plan.middle]);
  plan.lines = window.out[1];
  plan.in_lines = window.in[1];
  plan.stride = window.stride[1];
  plan.pad = window.pad[1];
  plan.reach = (window.kernel[1] - 1) * window.dilation[1] + 1;
  const auto bytes_of = [&](uint16_t value, int64_t count) {
    return byte_size(depthwise.problem.types[value].dtype, count);
  };
  plan.held_line = bytes_of(depthwise.problem.stages[0].inputs[0], checked_mul(window.in[2], y[1], "line"));
  plan.nothing_held = plan.in_lines == 0 || plan.held_line == 0;
  const int64_t block_line = bytes_of(depthwise.problem.results[0].value, checked_mul(window.out[2], y[1], "line"));
  const int64_t room = std::min(held_bytes / std::max<int64_t>(plan.held_line, 1), held_lines);
  const int64_t fit = (room - plan.reach) / plan.stride + 1;
  plan.step = std::clamp<int64_t>(fit, 1, plan.lines);
  plan.step = ceil_div(plan.lines, ceil_div(plan.lines, plan.step));
  // Chunks are tall, since each makes the lines at its border anew; still there is one for each thread.
  const int64_t images = y[0], wanted = c.threads <= 1 ? 1 : ceil_div(6 * static_cast<int64_t>(c.threads), images);
  const int64_t border = ceil_div(plan.reach, plan.stride), least = plan.middle > 0 ? border : 1;
  const int64_t tall = std::max(plan.lines / (4 * border), std::min(ceil_div(c.threads, images), plan.lines / least));
  plan.lines_per_chunk = ceil_div(plan.lines, std::clamp<int64_t>(tall, 1, wanted));
  plan.chunks_per_image = ceil_div(plan.lines, plan.lines_per_chunk);
  const int64_t chunks = checked_mul(images, plan.chunks_per_image, "chunks");
  if (c.threads > 1 && !plan.nothing_held && bands_fail(plan, chunks, images, c.threads)) {
    bind_one_by_one(plan, c, bound);
    return;
  }

  int64_t held = plan.in_lines;
  if (plan.middle > 0) {
    held = std::min(held, (plan.step - 1) * plan.stride + plan.reach);
    plan.block_offset = align_up(checked_mul(held, plan.held_line, "lines"), 64, "lines");
  }
  plan.part_offset = plan.block_offset;
  if (plan.middle < last) {
    const int64_t bytes = checked_mul(plan.step, block_line, "block");
    plan.part_offset = align_up(checked_add(plan.part_offset, bytes, "block"), 64, "block");
  }
  int64_t own = depthwise_lines_scratch(plan.bounds[plan.middle], plan.middle > 0 ? 0 : held, held);
  if (plan.middle > 0 && !plan.nothing_held) own = std::max(own, product_lines_scratch(plan.bounds[0], held));
  if (plan.middle < last) own = std::max(own, product_lines_scratch(plan.bounds[last], plan.step));
  bound.scratch = checked_add(plan.part_offset, own, "scratch");
  // Pictures that the first part turns around.
  bound.workspace = plan.bounds[0].workspace;
  if (plan.middle > 0) bound.phases = std::max(1, plan.bounds[0].phases);
  if (bound.phases > 1) bound.chunks[0] = plan.bounds[0].chunks[0];
  bound.chunks[bound.phases - 1] = chunks;
}

// A launch of one part: its operands are those of the chain and what lies in scratch.
struct PartLaunch {
  std::array<void*, max_values> values;
  Launch launch;

  PartLaunch(const Launch& whole, const Plan& plan, size_t p, void* before, void* made) : launch(whole) {
    const PreparedPart& part = (*plan.parts)[p];
    size_t n = 0;
    for (uint16_t v : part.sources) values[n++] = v < whole.problem->operands.size() ? whole.operands[v] : before;
    values[n] = p + 1 < plan.parts->size() ? made : whole.operands[whole.problem->operands.size()];
    launch.prepared = part.prepared.get();
    launch.bound = &plan.bounds[p];
    launch.problem = &part.problem;
    launch.operands = values.data();
    launch.boxes = nullptr;
    launch.scratch = whole.scratch + plan.part_offset;
  }
};

// A phase of the part that it belongs to.
Status run_one_by_one(const Plan& plan, const Launch& launch) {
  size_t p = 0;
  int phase = launch.phase;
  while (phase >= plan.bounds[p].phases) phase -= plan.bounds[p++].phases;
  PartLaunch part(launch, plan, p, p > 0 ? launch.workspace + plan.left[p - 1] : nullptr,
                  launch.workspace + plan.left[p]);
  part.launch.workspace = launch.workspace + plan.workspaces[p];
  part.launch.phase = phase;
  const Kernel& row = *(*plan.parts)[p].row;
  return row.run(part.launch);
}

Status run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  if (plan.one_by_one) return run_one_by_one(plan, launch);
  std::byte* const held = launch.scratch;
  std::byte* const block = launch.scratch + plan.block_offset;
  const bool expands = plan.middle > 0, projects = plan.middle + 1 < plan.parts->size();
  const PartLaunch dense(launch, plan, 0, nullptr, held);
  if (launch.phase + 1 < launch.bound->phases) return run_product(dense.launch);
  const PartLaunch middle(launch, plan, plan.middle, held, block);
  const PartLaunch behind(launch, plan, plan.parts->size() - 1, block, nullptr);
  const int64_t image = launch.chunk / plan.chunks_per_image;
  const int64_t begin = launch.chunk % plan.chunks_per_image * plan.lines_per_chunk;
  const int64_t end = std::min(plan.lines, begin + plan.lines_per_chunk);
  Reached there = {0, 0};  // lines that are held
  for (int64_t line = begin; line < end; line += plan.step) {
    const int64_t count = std::min(plan.step, end - line);
    Reached need = {0, plan.in_lines};
    if (expands) {
      need = reached(plan, line, line + count);
      const int64_t kept = std::max<int64_t>(0, there.end - need.begin), from = need.begin + kept;
      if (kept > 0)
        std::memmove(held, held + (need.begin - there.begin) * plan.held_line,
                     static_cast<size_t>(kept * plan.held_line));
      if (from < need.end && !plan.nothing_held) {
        PartLaunch more = dense;
        more.values[(*plan.parts)[0].sources.size()] = held + kept * plan.held_line;
        more.launch.operands = more.values.data();
        run_product_lines(more.launch, {image, from, need.end - from, false, true});
      }
      there = need;
    }
    run_depthwise_lines(middle.launch, {image, line, count, need.begin, need.end - need.begin, expands, projects});
    if (projects) run_product_lines(behind.launch, {image, line, count, true, false});
  }
  return {};
}

constexpr Kernel row(const char* name, const Kernel* conv, uint64_t features = 0) {
  return {.name = name,
          .self = conv,
          .supports = supports,
          .needs = needs,
          .cost = cost,
          .prepare = prepare,
          .bind = bind,
          .run = run,
          .features = features};
}

// By the row that makes their products.
constexpr Kernel rows[] = {row("strip_f32", &conv_rows[0]), row("strip_bf16", &conv_rows[1]),
                           row("strip_bf16x3", &conv_rows[2]), row("strip_bf16x6", &conv_rows[3]),
                           row("strip_f16", &conv_rows[4], features_of(PanelNumbers::f16_plane))};

}  // namespace

std::span<const Kernel> strip_kernels() { return rows; }

}  // namespace sinter::cpu
