// Conv of f32, 3x3 with stride 1, by Winograd's way (isa/winograd.h), channels last. Weights are the panels of the
// direct row and are transformed on the way, some channels of one panel at a time: that costs less than reading four
// times as many numbers would, and engines stay as small as they are.
//
// A tile whose results are not all finite is computed again as the definition says: what is infinite or NaN, or so
// large that transforms overflow, else reaches neighbours that it has no part in. Whether it is depends on the tile and
// the panel alone, so bits do not depend on how the work is split.

#include <bit>
#include <cmath>

#include "backend/cpu/device.h"
#include "backend/cpu/isa/winograd.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

constexpr int small = 2, large = 4;  // results of a tile along each axis; of Kernel::self
constexpr int64_t most_points = (large + 2) * (large + 2);

int edge_of(const Kernel& kernel) { return *static_cast<const int*>(kernel.self); }
int64_t points_of(int64_t edge) { return (edge + 2) * (edge + 2); }
// The most of `total` in equal parts of at most `limit`, in steps of `unit`.
int64_t even_part(int64_t total, int64_t limit, int64_t unit) {
  if (limit >= total) return total;
  return std::min(total, ceil_div(ceil_div(total, ceil_div(total, limit)), unit) * unit);
}
// Floats between the points of a block: an odd number of lines, so that they do not meet in one set of a cache.
int64_t point_stride(int64_t floats) { return (ceil_div(floats, 16) | 1) * 16; }

struct View {
  uint16_t x, w;
  int bias = -1;
  OutputView output;
};

View view_of(const Problem& problem) {
  const Stage& stage = problem.stages[0];
  View v{stage.inputs[0], stage.inputs[1], has(stage, 2) ? stage.inputs[2] : -1, image_view(4)};
  v.output.pitched = true;
  return v;
}

bool all_ones(const std::vector<int64_t>& values) {
  return std::all_of(values.begin(), values.end(), [](int64_t v) { return v == 1; });
}

Layout weights_layout(const Problem& problem, const View& view, const DeviceSpec& device) {
  return conv_layout(contract_table(device.level), (*problem.types[view.w].shape)[0].constant(), 1, 1);
}

// Whether images and results may be bf16: where rows that multiply bf16 leave values so.
bool keeps_narrow(const DeviceSpec& device) { return device.level >= avx512_bf16; }

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "Conv")) return Answer::no("not a Conv");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  // Errors are relative to the largest number of a tile, not to those of a result's own window.
  if (attrs.numerics == Numerics::strict) return Answer::no("the contraction must be strict");
  if (Answer a = convolution_operands(problem, stage, keeps_narrow(device)); !a) return a;
  const View view = view_of(problem);
  const Shape& w = *problem.types[view.w].shape;
  if (w.size() != 4 || w[2] != Dim(3) || w[3] != Dim(3)) return Answer::no("no window of 3x3");
  if (Answer a = window_known(2, window_ref(attrs)); !a) return a;
  if (attrs.group != 1 || !all_ones(attrs.strides) || !all_ones(attrs.dilations))
    return Answer::no("groups, strides or dilations");
  // Of results that see nothing but padding no error would be small.
  if (std::any_of(attrs.pads.begin(), attrs.pads.end(), [](int64_t pad) { return pad > 2; }))
    return Answer::no("windows that see only padding");
  if (!w[0].is_constant() || !w[1].is_constant() || w[0].constant() < 1 || w[1].constant() < 1)
    return Answer::no("the number of channels is not known");
  if (view.x == view.w || view.bias == view.w || view.bias == view.x) return Answer::no("an operand stands twice");
  if (!pixels_or_any(problem.operands[view.x].layout, 4)) return Answer::no("the operand must have its channels last");
  const Layout& weights = problem.operands[view.w].layout;
  if (in_epilogue(problem, view.w)) return Answer::no("the weights are read twice");
  if (weights.kind == Layout::Kind::any ? !problem.operands[view.w].constant
                                        : weights != weights_layout(problem, view, device))
    return Answer::no("the weights are no panels");
  return epilogue_supported(problem, view.output);
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec& device) {
  const View view = view_of(problem);
  return filtered_needs(problem, view.output, weights_layout(problem, view, device));
}

// ---- how one shape is cut

// All of a block's points of the image stay in the second-level cache, and beside them those of the weights of one
// panel and some channels.
constexpr int64_t image_floats = 192 << 10, weights_floats = 144 << 10, least_tiles = 16;
// Channels whose weights are transformed at once: a function of the level and the types alone.
int64_t depth_block(int64_t edge, int64_t channels, int64_t nr) {
  return even_part(channels, std::max<int64_t>(32, weights_floats / (points_of(edge) * nr)), 8);
}
int64_t tiles_block(int64_t edge, int64_t channels, int64_t tiles) {
  return even_part(tiles, std::max(least_tiles, image_floats / (points_of(edge) * channels)), 1);
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const View view = view_of(problem);
  const Shape& y = *problem.types[problem.first_result[0]].shape;
  const int edge = edge_of(kernel);
  const auto extent = [&](size_t axis) { return std::max<int64_t>(1, y[axis].evaluate(symbols)); };
  const auto along = [&](size_t axis) { return static_cast<double>(ceil_div(extent(axis), edge)); };
  const ContractTable& table = contract_table(device.level);
  const double lanes = table.lanes, points = static_cast<double>(points_of(edge));
  const double tiles = static_cast<double>(extent(0)) * along(2) * along(3);
  const int64_t channels = (*problem.types[view.w].shape)[1].constant();
  const double block = static_cast<double>(tiles_block(edge, channels, static_cast<int64_t>(std::min(tiles, 1e9))));
  const double depth = static_cast<double>(channels), c = std::ceil(depth / lanes);
  const double n = std::ceil(static_cast<double>(extent(1)) / lanes);
  // Products of few rows are bound by the weights; a vector of any transform by what it stores.
  const double vector = (device.level >= avx512 ? 3.0 : 2.3) * points;
  return 2000 + (1.1 + 3 / tiles) * contraction_cost(table, points * tiles, n * lanes, depth, 4 * n * lanes * depth) +
         vector * (tiles * (c + n) + std::ceil(tiles / block) * depth * n);
}

struct Prepared {
  const ContractTable* table;
  const WinogradTable* transforms;
  int edge;
  OutputView view;
  Epilogue epilogue;
};

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  const View view = view_of(problem);
  auto out = std::make_shared<Prepared>();
  out->table = &contract_table(device.level);
  out->transforms = &winograd_table(device.level);
  out->edge = edge_of(kernel);
  const bool narrow = keeps_narrow(device);
  out->view = view.output;
  out->epilogue = make_epilogue(problem, view.output, view.bias, device.level,
                                {.add = true, .add_narrow = narrow, .store_narrow = narrow});
  return out;
}

struct Plan {
  const Prepared* prepared;
  const WinogradTable::Tiles* tiles;
  BoundEpilogue epilogue;
  int64_t points, edge;
  Window window;
  ContractArgs direct;   // the same convolution by its definition
  ContractArgs of_tile;  // that of one tile's pixels, widened
  int x_operand, w_operand;
  bool narrow_x;  // bf16
  int64_t rows_of_tiles, tiles_of_row, tiles_of_image, all_tiles;
  int64_t tiles_step, columns_step, column_parts, units, units_per_chunk;
  int64_t channels, depth_step, image_row;              // image_row: floats from tile to tile
  int64_t image_points, weights_points, result_points;  // floats from point to point
  int64_t segment;                                      // tiles of a row that are finished together
  // Offsets into the scratch, bytes; what the loops and the epilogue want comes first.
  int64_t tile_offset, zeros, images, weights, products, made, widened;
};

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const Prepared*>(prepared_pointer);
  const View view = view_of(c.problem);
  const Dims &x = c.operands[view.x], &w = c.operands[view.w], &y = c.results[0];
  if (w[1] != x[1] || y[0] != x[0] || y[1] != w[0] || (view.bias >= 0 && c.operands[view.bias][0] != w[0]))
    throw Error(Code::invalid_argument, "the operands of a Conv do not fit together");
  Plan& p = emplace<Plan>(bound);
  p.prepared = &prepared;
  p.edge = prepared.edge;
  p.points = points_of(p.edge);
  p.tiles = prepared.edge == small ? &prepared.transforms->small : &prepared.transforms->large;
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  p.window = make_window(x, y, std::span(w).subspan(2), window_ref(c.problem.stages[0].attrs.as<ConvAttrs>()));
  p.x_operand = view.x;
  p.w_operand = view.w;
  p.narrow_x = c.problem.types[view.x].dtype == DType::bf16;
  ContractArgs& direct = p.direct;
  const ContractTable& table = *prepared.table;
  direct.k = p.channels = x[1];
  direct.n = w[0];
  direct.taps = 9;
  direct.nr = table.panel_width(direct.n);
  direct.m = checked_mul(y[0], checked_mul(y[2], y[3], "pixels"), "pixels");
  direct.lda = row_pitch(c.problem.operands[view.x].layout, x[1]);
  direct.ldc = row_pitch(c.problem.results[0].layout, w[0]);
  direct.image_stride = checked_mul(checked_mul(x[2], x[3], "image"), direct.lda, "image");
  direct.window = &p.window;
  direct.low = prepared.epilogue.low;
  direct.high = prepared.epilogue.high;

  p.rows_of_tiles = ceil_div(y[2], p.edge);
  p.tiles_of_row = ceil_div(y[3], p.edge);
  p.tiles_of_image = p.rows_of_tiles * p.tiles_of_row;
  p.all_tiles = checked_mul(y[0], p.tiles_of_image, "tiles");
  p.tiles_step = tiles_block(p.edge, p.channels, p.all_tiles);
  p.depth_step = depth_block(p.edge, p.channels, direct.nr);
  // Parts of the columns too where blocks of tiles are too few for all threads; each transforms the image.
  const int64_t blocks = ceil_div(p.all_tiles, p.tiles_step), panels = ceil_div(direct.n, direct.nr);
  const int64_t wanted = c.threads <= 1 ? 1 : std::min<int64_t>(4, c.threads) * c.threads;
  p.columns_step = ceil_div(panels, std::clamp<int64_t>(ceil_div(wanted, blocks), 1, panels)) * direct.nr;
  p.column_parts = ceil_div(direct.n, p.columns_step);
  p.units = checked_mul(blocks, p.column_parts, "blocks");
  p.units_per_chunk = ceil_div(p.units, c.threads <= 1 ? 1 : std::min(p.units, 4 * wanted));
  bound.chunks[0] = ceil_div(p.units, p.units_per_chunk);

  const int64_t columns = std::min<int64_t>(direct.nr, align_up(direct.n, table.lanes, "columns"));
  const int64_t last = direct.n % direct.nr == 0 ? direct.nr : direct.n % direct.nr;
  p.epilogue = bind_epilogue(prepared.epilogue, prepared.view, c, !prepared.epilogue.whole_batch,
                             std::min<int64_t>(direct.nr, direct.n), last);
  ContractArgs products;
  products.m = p.tiles_step;
  products.k = p.depth_step;
  products.n = products.nr = static_cast<int>(columns);
  direct.epilogue = [](void*, int64_t, int64_t, int64_t, int64_t, float*, int64_t) {};  // set when run
  int64_t scratch = table.scratch_size(products, p.tiles_step, columns);
  p.of_tile = direct;
  if (p.narrow_x) {
    p.of_tile.lda = p.channels;
    p.of_tile.m = p.edge * p.edge;
    p.of_tile.image_stride = 0;  // it is one
  }
  for (int64_t rows = 1; rows <= p.edge; ++rows)
    scratch = std::max(scratch, table.scratch_size(p.of_tile, rows, direct.nr));
  const auto place = [&](int64_t bytes) {
    const int64_t at = align_up(scratch, 64, "scratch");
    scratch = checked_add(at, bytes, "scratch");
    return at;
  };
  const auto floats = [&](int64_t a, int64_t b) { return byte_size(DType::f32, checked_mul(a, b, "scratch")); };
  p.image_row = checked_add(align_up(p.channels, 16, "channels"), p.channels % 256 == 0 ? 16 : 0, "channels");
  p.image_points = point_stride(checked_mul(p.image_row, p.tiles_step, "scratch"));
  p.weights_points = point_stride(checked_mul(p.depth_step, columns, "scratch"));
  p.result_points = point_stride(checked_mul(p.tiles_step, columns, "scratch"));
  p.segment = std::min<int64_t>(p.tiles_of_row, 32 / p.edge);
  p.tile_offset = place(p.epilogue.scratch);
  p.zeros = place(floats(p.channels, 1));
  p.images = place(floats(p.image_points, p.points));
  p.weights = place(floats(p.weights_points, p.points));
  p.products = place(floats(p.result_points, p.points));
  p.made = place(floats(p.segment * p.edge * p.edge, columns));
  p.widened = place(p.narrow_x ? floats(p.points, p.channels) : 0);
  bound.scratch = align_up(scratch, 64, "scratch");
}

// ---- running

// What one chunk works with.
struct Work {
  const Plan& plan;
  const Launch& launch;
  EpilogueRun epilogue;
  ContractArgs direct;  // of the images, or of a widened tile
  Window tile_window;
  const uint16_t* narrow_x = nullptr;
  const float* bias;
  const float* zeros;
  float *images, *weights, *products, *made, *widened;
  int64_t image = -1;  // that the epilogue stands at

  Work(const Plan& p, const Launch& l)
      : plan(p), launch(l), epilogue(p.epilogue, l, l.scratch + p.tile_offset), direct(p.of_tile) {
    const auto at = [&](int64_t offset) { return reinterpret_cast<float*>(l.scratch + offset); };
    zeros = at(p.zeros);
    std::fill_n(at(p.zeros), p.channels, 0.0f);
    images = at(p.images);
    weights = at(p.weights);
    products = at(p.products);
    made = at(p.made);
    widened = at(p.widened);
    const void* const x = l.operands[p.x_operand];
    if (p.narrow_x) narrow_x = static_cast<const uint16_t*>(x);
    direct.a = p.narrow_x ? widened : static_cast<const float*>(x);
    direct.b = static_cast<const float*>(l.operands[p.w_operand]);
    tile_window = p.window;
    tile_window.out[1] = tile_window.out[2] = p.edge;
    direct.window = p.narrow_x ? &tile_window : &p.window;
    const int b = p.prepared->epilogue.bias;
    bias = b < 0 ? nullptr : static_cast<const float*>(l.operands[b]);
  }
};

struct Place {
  int64_t image, row, column;  // of a tile, in tiles
};
Place place_of(const Plan& p, int64_t tile) {
  const int64_t in_image = tile % p.tiles_of_image;
  return {tile / p.tiles_of_image, in_image / p.tiles_of_row, in_image % p.tiles_of_row};
}

// image: of the table; a: the images.
template <typename T>
void transform_images(Work& work, int64_t first, int64_t count, const T* a,
                      void (*image)(const T* const*, int64_t, float*, int64_t)) {
  const Plan& p = work.plan;
  const T* const zeros = reinterpret_cast<const T*>(work.zeros);
  const int64_t size = p.edge + 2, height = p.window.in[1], width = p.window.in[2];
  for (int64_t i = 0; i < count; ++i) {
    const Place tile = place_of(p, first + i);
    const int64_t top = tile.row * p.edge - p.window.pad[1], left = tile.column * p.edge - p.window.pad[2];
    const T* pixels[most_points];
    for (int64_t y = 0; y < size; ++y)
      for (int64_t x = 0; x < size; ++x) {
        const bool inside = top + y >= 0 && top + y < height && left + x >= 0 && left + x < width;
        const int64_t pixel = (top + y) * width + left + x;
        pixels[y * size + x] = inside ? a + tile.image * p.direct.image_stride + pixel * p.direct.lda : zeros;
      }
    image(pixels, p.channels, work.images + i * p.image_row, p.image_points);
  }
}

// All points' products of a block of tiles and the panel at `column`, `width` floats wide.
void multiply(Work& work, int64_t tiles, int64_t column, int64_t width) {
  const Plan& p = work.plan;
  const float* panel = work.direct.b + column * p.channels * 9;
  ContractArgs args;
  args.m = tiles;
  args.n = args.ldc = width;
  args.nr = static_cast<int>(width);
  args.lda = p.image_row;
  for (int64_t k = 0; k < p.channels; k += p.depth_step) {
    args.k = std::min(p.depth_step, p.channels - k);
    p.tiles->weights(panel + k * width, p.channels * width, args.k * width, work.weights, p.weights_points);
    args.accumulate = k > 0;
    for (int64_t point = 0; point < p.points; ++point) {
      args.a = work.images + point * p.image_points + k;
      args.b = work.weights + point * p.weights_points;
      args.c = work.products + point * p.result_points;
      p.prepared->table->chunk(args, 0, tiles, 0, width, work.launch.scratch);
    }
  }
}

// Some pixels of one line of results, by their definition, to where the transform would have put them.
struct Again {
  float* to;
  int64_t first, stride;
  static void store(void* user, int64_t m, int64_t rows, int64_t, int64_t columns, float* block, int64_t stride) {
    const Again& again = *static_cast<const Again*>(user);
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(block + r * stride, columns, again.to + (m + r - again.first) * again.stride);
  }
};

// The pixels that a tile of an image of bf16 is made of, in f32, as an image of its own: the tile's first result is
// that of its first window. What lies outside the image is padding of it too.
void widen_tile(Work& work, const Place& tile) {
  const Plan& p = work.plan;
  const int64_t size = p.edge + 2;
  const int64_t top = tile.row * p.edge - p.window.pad[1], left = tile.column * p.edge - p.window.pad[2];
  const int64_t first_row = std::max<int64_t>(0, top), first_column = std::max<int64_t>(0, left);
  Window& window = work.tile_window;
  window.in[1] = std::min(p.window.in[1], top + size) - first_row;
  window.in[2] = std::min(p.window.in[2], left + size) - first_column;
  window.pad[1] = first_row - top;
  window.pad[2] = first_column - left;
  const uint16_t* const image = work.narrow_x + tile.image * p.direct.image_stride;
  float* to = work.widened;
  for (int64_t y = 0; y < window.in[1]; ++y)
    for (int64_t x = 0; x < window.in[2]; ++x, to += p.channels) {
      const uint16_t* const pixel = image + ((first_row + y) * p.window.in[2] + first_column + x) * p.direct.lda;
      for (int64_t c = 0; c < p.channels; ++c) to[c] = std::bit_cast<float>(uint32_t{pixel[c]} << 16);
    }
}

// Bias and what follows on `pixels` of a line of results from row m of C on.
void finish_line(Work& work, int64_t image, int64_t m, int64_t pixels, int64_t column, int64_t columns, float* sums,
                 int64_t width) {
  const Plan& p = work.plan;
  const Epilogue& epilogue = p.prepared->epilogue;
  WinogradFinish f;
  f.sums = sums;
  f.rows = pixels;
  f.columns = columns;
  f.stride = width;
  f.bias = work.bias ? work.bias + column : nullptr;
  f.low = p.direct.low;
  f.high = p.direct.high;
  if (!epilogue.executor) {
    ContractArgs args;
    place_result(work.launch, epilogue, m * p.direct.ldc + column, args);
    f.to = args.c;
    f.narrow_to = args.narrow_c;
    f.to_stride = p.direct.ldc;
    f.residual = args.residual;
    f.narrow_residual = args.narrow_residual;
    p.prepared->transforms->finish(f);
    return;
  }
  f.to = sums;
  f.to_stride = width;
  p.prepared->transforms->finish(f);
  const bool by_image = !epilogue.whole_batch;
  if (by_image ? work.image != image : work.image < 0) {
    work.image = image;
    work.epilogue.at(std::span(&image, by_image ? 1 : 0), 0);
  }
  if (by_image) m -= image * p.window.out[1] * p.window.out[2];
  EpilogueRun::block(&work.epilogue, m, pixels, column, columns, sums, width);
}

void finish_tiles(Work& work, int64_t first, int64_t count, int64_t column, int64_t columns, int64_t width) {
  const Plan& p = work.plan;
  const int64_t out_height = p.window.out[1], out_width = p.window.out[2];
  for (int64_t i = 0; i < count;) {
    const Place tile = place_of(p, first + i);
    const int64_t run = std::min({p.segment, count - i, p.tiles_of_row - tile.column});
    const int64_t line_stride = run * p.edge * width;
    const int64_t top = tile.row * p.edge, left = tile.column * p.edge;
    const int64_t lines = std::min(p.edge, out_height - top), pixels = std::min(run * p.edge, out_width - left);
    const int64_t m = (tile.image * out_height + top) * out_width + left;
    for (int64_t t = 0; t < run; ++t) {
      float* to = work.made + t * p.edge * width;
      if (p.tiles->result(work.products + (i + t) * width, p.result_points, width, to, line_stride, width)) continue;
      if (p.narrow_x) widen_tile(work, {tile.image, tile.row, tile.column + t});
      for (int64_t y = 0; y < lines; ++y) {
        const int64_t from = p.narrow_x ? y * p.edge : m + y * out_width + t * p.edge;
        const int64_t wanted = std::min(p.edge, pixels - t * p.edge);
        Again again{to + y * line_stride, from, width};
        work.direct.epilogue = Again::store;
        work.direct.user = &again;
        work.direct.low = -contract_no_bound;
        work.direct.high = contract_no_bound;
        p.prepared->table->chunk(work.direct, from, from + wanted, column, column + columns, work.launch.scratch);
      }
    }
    for (int64_t y = 0; y < lines; ++y)
      finish_line(work, tile.image, m + y * out_width, pixels, column, columns, work.made + y * line_stride, width);
    i += run;
  }
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  Work work(p, launch);
  const int64_t end = std::min(p.units, (launch.chunk + 1) * p.units_per_chunk);
  int64_t transformed = -1;
  for (int64_t unit = launch.chunk * p.units_per_chunk; unit < end; ++unit) {
    const int64_t block = unit / p.column_parts, first = block * p.tiles_step;
    const int64_t count = std::min(p.tiles_step, p.all_tiles - first);
    if (block != transformed && p.narrow_x) transform_images(work, first, count, work.narrow_x, p.tiles->narrow_image);
    if (block != transformed && !p.narrow_x) transform_images(work, first, count, work.direct.a, p.tiles->image);
    transformed = block;
    const int64_t begin = unit % p.column_parts * p.columns_step;
    for (int64_t n = begin; n < std::min(p.direct.n, begin + p.columns_step); n += p.direct.nr) {
      const int64_t columns = std::min<int64_t>(p.direct.nr, p.direct.n - n);
      const int64_t width = ceil_div(columns, p.prepared->table->lanes) * p.prepared->table->lanes;
      multiply(work, count, n, width);
      finish_tiles(work, first, count, n, columns, width);
    }
  }
  return {};
}

bool overwrites(const Kernel&, const Problem& problem, size_t operand) {
  return epilogue_overwrites(problem, view_of(problem).output, operand);
}

constexpr Kernel row(const char* name, const int* edge) {
  return {.name = name,
          .self = edge,
          .supports = supports,
          .needs = needs,
          .cost = cost,
          .prepare = prepare,
          .bind = bind,
          .run = run,
          .may_overwrite = overwrites};
}

constexpr int edges[] = {small, large};
constexpr Kernel rows[] = {row("conv_winograd2_f32", &edges[0]), row("conv_winograd4_f32", &edges[1])};

}  // namespace

std::span<const Kernel> winograd_kernels() { return rows; }

}  // namespace sinter::cpu
