#include <algorithm>
#include <bit>
#include <utility>

#include "backend/cpu/kernels/attention_plan.h"
#include "base/checked.h"
#include "tensor/convert.h"

namespace sinter::cpu::attention {
namespace {

struct Position {
  int64_t at[max_rank_of_values + 2];
  Position(const Dims& dims, int64_t number) {
    for (size_t k = dims.size(); k-- > 0;) {
      at[k] = dims[k] > 0 ? number % dims[k] : 0;
      number = dims[k] > 0 ? number / dims[k] : 0;
    }
  }
  int64_t dot(const Dims& strides) const {
    int64_t sum = 0;
    for (size_t k = 0; k < strides.size(); ++k) sum += at[k] * strides[k];
    return sum;
  }
  int64_t of(const Part& part) const {
    int64_t sum = part.offset;
    for (size_t k = 0; k < part.batch.size(); ++k) {
      const int64_t inner = part.inner[k];
      sum += inner == 0 ? at[k] * part.batch[k] : at[k] / inner * part.outer[k] + at[k] % inner * part.batch[k];
    }
    return sum;
  }
};

const std::byte* matrix_at(const Launch& launch, const Part& part, const Position& position) {
  const auto* base = static_cast<const std::byte*>(launch.operands[part.argument]);
  return base == nullptr ? nullptr : base + position.of(part) * part.width;
}

void pack(const Plan& plan, const Launch& launch, const Factor& f, const Position& position, int64_t n_begin,
          int64_t n_end, float* to) {
  if (f.pack.k == 0 || f.pack.n == 0) return;
  PackArgs args = f.pack;
  const std::byte* from = matrix_at(launch, f.part, position);
  if (f.part.width == 2)
    args.narrow_src = reinterpret_cast<const uint16_t*>(from);
  else
    args.src = reinterpret_cast<const float*>(from);
  plan.prepared->table->pack_b(args, n_begin, n_end, to);
}

// Whether no number of columns [n_begin, n_end) of a factor is infinite or NaN, or becomes so where it is rounded to
// bf16: then weights of 0 make 0 of it.
template <typename T>
bool all_finite(const T* from, int64_t outer, int64_t inner, int64_t outer_stride, int64_t inner_stride) {
  constexpr auto magnitude = static_cast<T>(sizeof(T) == 4 ? 0x7fffffffu : 0x7fffu);
  constexpr auto least = static_cast<T>(sizeof(T) == 4 ? 0x7f7f8000u : 0x7f80u);
  bool infinite = false;
  for (int64_t i = 0; i < outer && !infinite; ++i, from += outer_stride) {
    if (inner_stride == 1)
      for (int64_t j = 0; j < inner; ++j) infinite |= (from[j] & magnitude) >= least;
    else
      for (int64_t j = 0; j < inner; ++j) infinite |= (from[j * inner_stride] & magnitude) >= least;
  }
  return !infinite;
}

bool all_finite(const Factor& f, const std::byte* from, int64_t n_begin, int64_t n_end) {
  if (f.pack.k == 0 || n_begin >= n_end) return true;
  int64_t outer = f.pack.k, inner = n_end - n_begin, outer_stride = f.pack.k_stride, inner_stride = f.pack.n_stride;
  from += n_begin * inner_stride * f.part.width;
  if (outer_stride == 1) {
    std::swap(outer, inner);
    std::swap(outer_stride, inner_stride);
  }
  if (f.part.width == 2)
    return all_finite(reinterpret_cast<const uint16_t*>(from), outer, inner, outer_stride, inner_stride);
  return all_finite(reinterpret_cast<const uint32_t*>(from), outer, inner, outer_stride, inner_stride);
}

// Keys [begin, end).
struct Span {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

float widened(uint16_t half) { return std::bit_cast<float>(uint32_t{half} << 16); }
uint16_t rounded(float x) { return static_cast<uint16_t>(encode_float(DType::bf16, static_cast<double>(x))); }

// Blocks of rows of one head after the other.
class Blocks {
 public:
  Blocks(const Plan& plan, const Launch& launch)
      : p_(plan),
        launch_(launch),
        scores_(at<float>(plan.scores_offset)),
        sums_(at<float>(plan.sums_offset)),
        largest_(at<float>(plan.largest_offset)),
        scratch_(launch.scratch + plan.tile_offset) {
    if (!plan.tiled) return;
    tiles().begin(plan.m);
    if (tiles().planes > 1) return;
    // Steps of the sum are whole: weights behind the keys are zero.
    for (int64_t r = 0; r < plan.rows; ++r)
      std::fill(weights() + r * plan.weights_ld + plan.n, weights() + (r + 1) * plan.weights_ld, uint16_t{0});
  }
  ~Blocks() {
    if (p_.tiled) tiles().end();
  }
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;

  // k and v: panels, or the matrices as they lie.
  void move_to(const Position& position, const float* k, const float* v) {
    k_ = k;
    v_ = v;
    q_ = matrix_at(launch_, p_.q, position);
    y_ = static_cast<std::byte*>(launch_.operands[p_.y.argument]) + position.of(p_.y) * p_.y.width;
    const std::vector<uint16_t>& operands = p_.between->stages.operands;
    size_t count = 0;
    for (; count < p_.parts.size(); ++count) {
      const Part& part = p_.parts[count];
      if (part.band >= 0)
        buffers_[count] = {nullptr, -part.row, 1};  // by block
      else if (operands[count] == 0)
        buffers_[count] = {scores_, p_.ld, 1};
      else
        buffers_[count] = {static_cast<std::byte*>(launch_.operands[part.argument]) + position.of(part) * part.width,
                           part.row, part.col == 0 ? 1 : part.col};
    }
    if (p_.tiled && tiles().planes == 1)
      buffers_[count++] = {weights(), p_.weights_ld, 1};
    else
      buffers_[count++] = {scores_, p_.ld, 1};
    if (p_.between->sums) buffers_[count++] = {sums_, 1, 1};
    if (p_.prepared->form.hidden) buffers_[count++] = {largest_, 1, 1};
    count_ = count;
    for (size_t i = 0; i < p_.bands.size(); ++i) {
      const auto bound = [&](const std::optional<Part>& part, int64_t otherwise) {
        if (!part) return otherwise;
        return std::clamp(*reinterpret_cast<const int64_t*>(matrix_at(launch_, *part, position)), -max_elements,
                          max_elements);
      };
      diagonals_[i] = {bound(p_.bands[i].first, -max_elements), bound(p_.bands[i].last, max_elements)};
    }
    if (!p_.hides) return;
    fill_ = *reinterpret_cast<const float*>(matrix_at(launch_, p_.fill, position));
    units_ = tile_units(*p_.executor, std::span(buffers_, count));
    values_ = matrix_at(launch_, p_.v.part, position);
  }

  // finite: whether values of the head are, as far as that is known.
  void run(int64_t block, std::optional<bool>& finite) {
    const int64_t begin = block * p_.rows, rows = std::min(p_.rows, p_.m - begin);
    const Span whole{0, p_.n}, span = p_.hides ? visible(begin, rows) : whole;
    if (span.size() < whole.size()) {
      if (!finite) finite = all_finite(p_.v, values_, 0, p_.d);
      if (*finite && run(begin, rows, span)) return;
    }
    run(begin, rows, whole);
  }

 private:
  // False where keys outside of the span weigh something after all.
  bool run(int64_t begin, int64_t rows, const Span& span) {
    if (p_.tiled) return run_tiled(begin, rows, span);
    int64_t lda = 0;
    const float* q = p_.depth > 0 ? queries(begin, rows, lda) : scores_;  // read only where there is a sum
    if (p_.n > 0) {
      multiply_keys(rows, q, lda, span);
      between(begin, rows, span);
      if (span.size() < p_.n && !hidden(rows)) return false;
    }
    if (!p_.copies_y) {
      multiply_values(rows, span, reinterpret_cast<float*>(result(begin)), p_.y.row);
      return true;
    }
    auto* made = at<float>(p_.y_offset);
    multiply_values(rows, span, made, p_.d);
    copy_result(made, p_.d, rows, result(begin));
    return true;
  }

  // Keys that a row of the block may see, and some more: whole turns of what adds up rows.
  Span visible(int64_t begin, int64_t rows) const {
    const size_t number = p_.prepared->form.hidden->band;
    const auto& [first, last] = diagonals_[number];
    if (p_.bands[number].one_row) {
      begin = 0;
      rows = 1;
    }
    const int64_t from = std::clamp<int64_t>(begin + first, 0, p_.n);
    const int64_t behind = std::clamp<int64_t>(begin + rows + last, 0, p_.n);
    if (from >= behind) return {0, p_.n};
    const int64_t turns = (behind + units_.last - 1) / units_.last;
    return {from / units_.first * units_.first, std::min(p_.n, turns * units_.last)};
  }

  // Whether the fill is so far below each row's largest score that its exponential is 0.
  bool hidden(int64_t rows) const {
    return std::all_of(largest_, largest_ + rows, [&](float largest) { return fill_ - largest < -128; });
  }

  template <typename T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(launch_.scratch + offset);
  }
  const AttentionTable& tiles() const { return *p_.prepared->tiles; }
  uint16_t* weights() const { return at<uint16_t>(p_.weights_offset); }
  std::byte* result(int64_t row) const { return y_ + row * p_.y.row * p_.y.width; }
  const std::byte* query(int64_t row) const { return q_ + row * p_.q.row * p_.q.width; }

  // Rows of queries with elements side by side.
  const float* queries(int64_t begin, int64_t rows, int64_t& stride) const {
    const std::byte* q = query(begin);
    if (p_.q.width == 4) return side_by_side(reinterpret_cast<const float*>(q), rows, stride);
    const auto* halves = reinterpret_cast<const uint16_t*>(q);
    auto* copy = at<float>(p_.q_offset);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < p_.depth; ++i) copy[r * p_.depth + i] = widened(halves[r * p_.q.row + i * p_.q.col]);
    stride = p_.depth;
    return copy;
  }
  template <typename T>
  const T* side_by_side(const T* q, int64_t rows, int64_t& stride) const {
    stride = p_.q.row;
    if (!p_.copies_q) return q;
    T* copy = at<T>(p_.q_offset);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < p_.depth; ++i) copy[r * p_.depth + i] = q[r * p_.q.row + i * p_.q.col];
    stride = p_.depth;
    return copy;
  }

  void copy_result(const float* made, int64_t ld, int64_t rows, std::byte* to) const {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < p_.d; ++i) {
        const int64_t place = r * p_.y.row + i * p_.y.col;
        if (p_.y.width == 2)
          reinterpret_cast<uint16_t*>(to)[place] = rounded(made[r * ld + i]);
        else
          reinterpret_cast<float*>(to)[place] = made[r * ld + i];
      }
  }

  // Columns [first, last) of a product: whole panels.
  void multiply(const Factor& f, int64_t rows, const float* a, int64_t lda, const float* b, float* c, int64_t ldc,
                int64_t first, int64_t last) {
    ContractArgs args;
    args.m = rows;
    args.n = f.pack.n;
    args.k = f.pack.k;
    args.a = a;
    args.lda = lda;
    args.b = b;
    args.nr = f.pack.nr;
    args.c = c;
    args.ldc = ldc;
    p_.prepared->table->chunk(args, 0, rows, first, last, scratch_);
  }

  // Scores of the keys in the span lie where those of all keys would.
  void multiply_keys(int64_t rows, const float* q, int64_t lda, const Span& span) {
    const PackArgs& k = p_.k.pack;
    if (p_.unpacked) {
      p_.prepared->table->unpacked(rows, k.k, q, lda, k_, k.k_stride, k.n_stride, span.begin, span.end, scores_, p_.ld);
      return;
    }
    const int64_t last = (span.end + k.nr - 1) / k.nr * k.nr;
    multiply(p_.k, rows, q, lda, k_, scores_, p_.ld, span.begin / k.nr * k.nr, std::min(k.n, last));
  }

  void multiply_values(int64_t rows, const Span& span, float* to, int64_t ld) {
    const ContractTable& table = *p_.prepared->table;
    const PackArgs& v = p_.v.pack;
    const float* weights = scores_ + span.begin;
    if (p_.unpacked) {
      table.unpacked(rows, span.size(), weights, p_.ld, v_ + span.begin * v.k_stride, v.k_stride, v.n_stride, 0, v.n,
                     to, ld);
      return;
    }
    if (span.size() == v.k) return multiply(p_.v, rows, weights, p_.ld, v_, to, ld, 0, v.n);
    // A part of the sums, of one panel after the other.
    for (int64_t n = 0; n < v.n; n += v.nr) {
      const int64_t cols = std::min<int64_t>(v.nr, v.n - n);
      const int64_t width = std::min<int64_t>(v.nr, (cols + table.lanes - 1) / table.lanes * table.lanes);
      ContractArgs args;
      args.m = rows;
      args.n = cols;
      args.k = span.size();
      args.a = weights;
      args.lda = p_.ld;
      args.b = v_ + n * v.k + span.begin * width;
      args.nr = v.nr;
      args.c = to + n;
      args.ldc = ld;
      table.chunk(args, 0, rows, 0, cols, scratch_);
    }
  }

  void between(int64_t begin, int64_t rows, const Span& span) {
    TileBuffer buffers[max_buffers];
    std::copy(buffers_, buffers_ + count_, buffers);
    for (size_t i = 0; i < p_.bands.size(); ++i) make_band(i, begin, rows);
    const auto move = [&](size_t i, int64_t bytes) {
      buffers[i].data = static_cast<std::byte*>(buffers[i].data) + bytes;
    };
    for (size_t i = 0; i < p_.parts.size(); ++i) {
      const Part& part = p_.parts[i];
      if (part.band >= 0)
        buffers[i].data = band(static_cast<size_t>(part.band)) + (part.row == 0 ? 0 : rows - 1);
      else if (p_.between->stages.operands[i] != 0)
        move(i, begin * part.row * part.width);
      move(i, span.begin * part.col * part.width);
    }
    // The weights are the first result.
    move(p_.parts.size(), span.begin * (p_.tiled && tiles().planes == 1 ? 2 : 4));
    run_tile(*p_.executor, std::span(buffers, count_), 0, rows, span.size(), scratch_);
  }

  uint8_t* band(size_t i) const { return at<uint8_t>(p_.bands_offset) + static_cast<int64_t>(i) * p_.band_size; }

  // Column c of row `begin` + r is byte c - r + rows - 1: all rows are the same diagonals.
  void make_band(size_t i, int64_t begin, int64_t rows) {
    const auto [first, last] = diagonals_[i];
    if (p_.bands[i].one_row) {
      begin = 0;
      rows = 1;
    }
    const int64_t size = p_.n + rows - 1, shift = begin + rows - 1;
    const int64_t from = std::clamp<int64_t>(first + shift, 0, size);
    const int64_t behind = std::clamp<int64_t>(last + shift + 1, from, size);
    std::fill(band(i), band(i) + from, uint8_t{0});
    std::fill(band(i) + from, band(i) + behind, uint8_t{1});
    std::fill(band(i) + behind, band(i) + size, uint8_t{0});
  }

  // ---- on tiles

  // Floats from one step of a panel of B to the next, by its columns.
  int64_t step_of(int64_t columns) const { return (columns > 16 ? 2 : 1) * tiles().planes * 256; }

  bool run_tiled(int64_t begin, int64_t rows, const Span& span) {
    const bool partly = span.size() < p_.n;
    const int64_t planes = tiles().planes;
    TileProduct scores = packed_a(p_.depth, at<char>(p_.planes_offset));
    scores.rows = rows;
    scores.n = span.size();
    scores.b = k_ + span.begin / 32 * scores.steps * step_of(32);
    scores.c = scores_ + span.begin;
    scores.ldc = p_.ld;
    int64_t stride = 0;
    const std::byte* q = query(begin);
    auto* split = at<char>(p_.planes_offset);
    if (p_.q.width == 2) {
      const uint16_t* from = side_by_side(reinterpret_cast<const uint16_t*>(q), rows, stride);
      tiles().split_narrow(from, stride, rows, p_.depth, split);
    } else {
      const float* from = side_by_side(reinterpret_cast<const float*>(q), rows, stride);
      tiles().split(from, stride, rows, p_.depth, split);
    }
    tiles().product(scores);
    // Sums show what is NaN among the scores of a row.
    const bool sums = p_.between->sums;
    bool again = planes > 1 && !sums && tiles().has_nan(scores_ + span.begin, p_.ld, rows, span.size());
    if (!again) between(begin, rows, span);
    again = again || (planes > 1 && sums && tiles().has_nan(sums_, rows, 1, rows));
    if (partly && (again || !hidden(rows))) return false;
    if (again) {
      const float* from = queries(begin, rows, stride);
      multiply_keys(rows, from, stride, span);
      between(begin, rows, span);
      tiles().begin(p_.m);
    }
    for (int64_t r = 0; r < rows; r += turn_rows)
      if (!make_rows(r, std::min(turn_rows, rows - r), span, result(begin + r))) return false;
    return true;
  }

  // Rows as `split` leaves them.
  TileProduct packed_a(int64_t k, const char* a) const {
    TileProduct t;
    t.steps = (k + 31) / 32;
    t.a = a;
    t.row = 64;
    t.plane = 1024;
    t.step = tiles().planes * t.plane;
    t.tile = t.steps * t.step;
    return t;
  }

  // Rows of y from rows of weights; false where a part of the keys makes NaN of finite numbers.
  bool make_rows(int64_t first, int64_t rows, const Span& span, std::byte* to) {
    auto* made = at<float>(p_.y_offset);
    TileProduct t = packed_a(span.size(), at<char>(p_.weights_offset));
    const float* own = scores_ + first * p_.ld + span.begin;
    if (tiles().planes == 1) {
      t.a = reinterpret_cast<const char*>(weights() + first * p_.weights_ld + span.begin);
      t.row = p_.weights_ld * 2;
      t.tile = 16 * t.row;
      t.step = 64;
    } else {
      tiles().split(own, p_.ld, rows, span.size(), at<char>(p_.weights_offset));
    }
    t.rows = rows;
    t.ldc = p_.y_ld;
    // One panel of values after the other: their steps are those of all keys.
    const int64_t steps = (p_.n + 31) / 32;
    for (int64_t n = 0; n < p_.d; n += 32) {
      t.n = std::min<int64_t>(32, p_.d - n);
      t.b = v_ + n / 32 * steps * step_of(32) + span.begin / 32 * step_of(t.n);
      t.c = made + n;
      tiles().product(t);
    }
    TileFinish f;
    f.rows = rows;
    f.n = p_.d;
    f.from = made;
    f.ld = p_.y_ld;
    f.scale = p_.between->sums ? sums_ + first : nullptr;
    f.stride = p_.y.row;
    if (p_.copies_y) {
      f.to = at<float>(p_.copy_offset);
      f.stride = p_.y_ld;
    } else if (p_.y.width == 2) {
      f.narrow_to = reinterpret_cast<uint16_t*>(to);
    } else {
      f.to = reinterpret_cast<float*>(to);
    }
    if (tiles().finish(f) && tiles().planes > 1) {
      if (span.size() < p_.n) return false;
      multiply(p_.v, rows, own, p_.ld, v_, made, p_.y_ld, 0, p_.d);
      tiles().begin(p_.m);
      tiles().finish(f);
    }
    if (p_.copies_y) copy_result(f.to, p_.y_ld, rows, to);
    return true;
  }

  const Plan& p_;
  const Launch& launch_;
  float *scores_, *sums_, *largest_;
  std::pair<int64_t, int64_t> diagonals_[max_bands];  // by band: the first and the last that are true
  void* scratch_;
  // Of the head.
  const float *k_ = nullptr, *v_ = nullptr;
  const std::byte* q_ = nullptr;
  std::byte* y_ = nullptr;
  const std::byte* values_ = nullptr;
  float fill_ = 0;
  TileUnits units_ = {};
  size_t count_ = 0;
  TileBuffer buffers_[max_buffers];
};

Status run_packs(const Plan& p, const Launch& launch) {
  const int64_t k_packs = p.k.matrices * p.k.packs;
  const bool is_k = launch.chunk < k_packs;
  const Factor& f = is_k ? p.k : p.v;
  const int64_t number = is_k ? launch.chunk : launch.chunk - k_packs;
  const int64_t matrix = number / f.packs, n = number % f.packs * f.panels * f.pack.nr;
  auto* to = reinterpret_cast<float*>(launch.workspace + (is_k ? 0 : p.v_offset)) + matrix * f.floats;
  const Position position(f.extents, matrix);
  const int64_t n_end = std::min(f.pack.n, n + f.panels * f.pack.nr);
  pack(p, launch, f, position, n, n_end, to);
  if (!is_k && p.hides)
    launch.workspace[p.finite_offset + number] =
        std::byte{all_finite(f, matrix_at(launch, f.part, position), n, n_end)};
  return {};
}

}  // namespace

Status run_attention(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  if (launch.phase + 1 < launch.bound->phases) return run_packs(p, launch);
  Blocks blocks(p, launch);
  const auto panels = [&](const Factor& f, const Position& position, int64_t offset) -> const float* {
    if (p.unpacked) return reinterpret_cast<const float*>(matrix_at(launch, f.part, position));
    return reinterpret_cast<const float*>(launch.workspace + offset) + position.dot(f.index) * f.floats;
  };
  if (!p.local) {
    const Position position(p.batch, launch.chunk / p.blocks);
    blocks.move_to(position, panels(p.k, position, 0), panels(p.v, position, p.v_offset));
    std::optional<bool> finite;
    if (p.hides && !p.unpacked) {
      const std::byte* known = launch.workspace + p.finite_offset + position.dot(p.v.index) * p.v.packs;
      finite = std::all_of(known, known + p.v.packs, [](std::byte b) { return b != std::byte{0}; });
    }
    blocks.run(launch.chunk % p.blocks, finite);
    return {};
  }
  auto* own_k = reinterpret_cast<float*>(launch.scratch + p.panels_offset);
  auto* own_v = reinterpret_cast<float*>(launch.scratch + p.v_offset);
  int64_t packed_k = -1, packed_v = -1;
  std::optional<bool> finite;
  const Range heads = part(p.heads, p.chunks, launch.chunk);
  for (int64_t head = heads.begin; head < heads.end; ++head) {
    const Position position(p.batch, head);
    const float *k = own_k, *v = own_v;
    if (p.unpacked) {
      finite.reset();
      k = panels(p.k, position, 0);
      v = panels(p.v, position, 0);
    } else {
      // Heads may share keys and values.
      if (const int64_t matrix = position.dot(p.k.index); matrix != packed_k) {
        pack(p, launch, p.k, position, 0, p.n, own_k);
        packed_k = matrix;
      }
      if (const int64_t matrix = position.dot(p.v.index); matrix != packed_v) {
        pack(p, launch, p.v, position, 0, p.d, own_v);
        packed_v = matrix;
        finite.reset();
      }
    }
    blocks.move_to(position, k, v);
    for (int64_t b = 0; b < p.blocks; ++b) blocks.run(b, finite);
  }
  return {};
}

}  // namespace sinter::cpu::attention
