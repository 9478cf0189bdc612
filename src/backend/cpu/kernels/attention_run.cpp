#include <algorithm>
#include <bit>

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
      if (operands[count] == 0)
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
  }

  void run(int64_t block) {
    const int64_t begin = block * p_.rows, rows = std::min(p_.rows, p_.m - begin);
    if (p_.tiled) return run_tiled(begin, rows);
    int64_t lda = 0;
    const float* q = p_.depth > 0 ? queries(begin, rows, lda) : scores_;  // read only where there is a sum
    if (p_.n > 0) {
      multiply(p_.k, rows, q, lda, k_, scores_, p_.ld);
      between(begin, rows);
    }
    if (!p_.copies_y) {
      multiply(p_.v, rows, scores_, p_.ld, v_, reinterpret_cast<float*>(result(begin)), p_.y.row);
      return;
    }
    auto* made = at<float>(p_.y_offset);
    multiply(p_.v, rows, scores_, p_.ld, v_, made, p_.d);
    copy_result(made, p_.d, rows, result(begin));
  }

 private:
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

  void multiply(const Factor& f, int64_t rows, const float* a, int64_t lda, const float* b, float* c, int64_t ldc) {
    const ContractTable& table = *p_.prepared->table;
    if (p_.unpacked) {
      table.unpacked(rows, f.pack.k, a, lda, b, f.pack.k_stride, f.pack.n_stride, 0, f.pack.n, c, ldc);
      return;
    }
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
    table.chunk(args, 0, rows, 0, args.n, scratch_);
  }

  void between(int64_t begin, int64_t rows) {
    TileBuffer buffers[max_buffers];
    const size_t count = p_.parts.size() + (p_.between->sums ? 2 : 1);
    std::copy(buffers_, buffers_ + count, buffers);
    for (size_t i = 0; i < p_.parts.size() && begin > 0; ++i)
      if (p_.between->stages.operands[i] != 0)
        buffers[i].data = static_cast<std::byte*>(buffers[i].data) + begin * p_.parts[i].row * p_.parts[i].width;
    run_tile(*p_.executor, std::span(buffers, count), 0, rows, p_.n, scratch_);
  }

  // ---- on tiles

  void run_tiled(int64_t begin, int64_t rows) {
    const int64_t planes = tiles().planes;
    TileProduct scores = packed_a(p_.depth, at<char>(p_.planes_offset));
    scores.rows = rows;
    scores.n = p_.n;
    scores.b = k_;
    scores.c = scores_;
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
    bool again = planes > 1 && !sums && tiles().has_nan(scores_, p_.ld, rows, p_.n);
    if (!again) between(begin, rows);
    again = again || (planes > 1 && sums && tiles().has_nan(sums_, rows, 1, rows));
    if (again) {
      const float* from = queries(begin, rows, stride);
      multiply(p_.k, rows, from, stride, k_, scores_, p_.ld);
      between(begin, rows);
      tiles().begin(p_.m);
    }
    for (int64_t r = 0; r < rows; r += turn_rows) make_rows(r, std::min(turn_rows, rows - r), result(begin + r));
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

  // Rows of y from rows of weights.
  void make_rows(int64_t first, int64_t rows, std::byte* to) {
    auto* made = at<float>(p_.y_offset);
    TileProduct t = packed_a(p_.n, at<char>(p_.weights_offset));
    const float* own = scores_ + first * p_.ld;
    if (tiles().planes == 1) {
      t.a = reinterpret_cast<const char*>(weights() + first * p_.weights_ld);
      t.row = p_.weights_ld * 2;
      t.tile = 16 * t.row;
      t.step = 64;
    } else {
      tiles().split(own, p_.ld, rows, p_.n, at<char>(p_.weights_offset));
    }
    t.rows = rows;
    t.n = p_.d;
    t.b = v_;
    t.c = made;
    t.ldc = p_.y_ld;
    tiles().product(t);
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
      multiply(p_.v, rows, own, p_.ld, v_, made, p_.y_ld);
      tiles().begin(p_.m);
      tiles().finish(f);
    }
    if (p_.copies_y) copy_result(f.to, p_.y_ld, rows, to);
  }

  const Plan& p_;
  const Launch& launch_;
  float *scores_, *sums_;
  void* scratch_;
  // Of the head.
  const float *k_ = nullptr, *v_ = nullptr;
  const std::byte* q_ = nullptr;
  std::byte* y_ = nullptr;
  TileBuffer buffers_[max_buffers];
};

Status run_packs(const Plan& p, const Launch& launch) {
  const int64_t k_packs = p.k.matrices * p.k.packs;
  const bool is_k = launch.chunk < k_packs;
  const Factor& f = is_k ? p.k : p.v;
  const int64_t number = is_k ? launch.chunk : launch.chunk - k_packs;
  const int64_t matrix = number / f.packs, n = number % f.packs * f.panels * f.pack.nr;
  auto* to = reinterpret_cast<float*>(launch.workspace + (is_k ? 0 : p.v_offset)) + matrix * f.floats;
  pack(p, launch, f, Position(f.extents, matrix), n, std::min(f.pack.n, n + f.panels * f.pack.nr), to);
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
    blocks.run(launch.chunk % p.blocks);
    return {};
  }
  auto* own_k = reinterpret_cast<float*>(launch.scratch + p.panels_offset);
  auto* own_v = reinterpret_cast<float*>(launch.scratch + p.v_offset);
  int64_t packed_k = -1, packed_v = -1;
  const Range heads = part(p.heads, p.chunks, launch.chunk);
  for (int64_t head = heads.begin; head < heads.end; ++head) {
    const Position position(p.batch, head);
    const float *k = own_k, *v = own_v;
    if (p.unpacked) {
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
      }
    }
    blocks.move_to(position, k, v);
    for (int64_t b = 0; b < p.blocks; ++b) blocks.run(b);
  }
  return {};
}

}  // namespace sinter::cpu::attention
