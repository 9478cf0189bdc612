#include "backend/cpu/tile_executor.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "backend/cpu/tile_plan.h"
#include "base/checked.h"
#include "tensor/convert.h"

namespace sinter::cpu {
namespace {

constexpr int64_t alignment = 64;
// Rows shorter than this are computed many at a time, with values per row or column written out.
constexpr int64_t short_row = 48;

int64_t rounded_up(int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// Where a value stands for the loops.
struct Spot {
  std::byte* at = nullptr;
  int64_t row = 0, col = 1;
};

// Sizes of the parts of scratch, in bytes.
struct Sizes {
  int64_t spots, scalars, column, row, slot, kept;
  Sizes(const TileExecutor& e, int64_t cols) {
    const int64_t longest = rounded_up(std::max(cols, e.tile) * e.width);
    spots = rounded_up(static_cast<int64_t>(2 * e.values.size() * sizeof(Spot)));
    scalars = rounded_up(int64_t{8} * e.scalar_count);
    column = longest;
    row = rounded_up(e.tile * e.width);
    slot = rounded_up(e.tile * e.width);
    kept = longest;
  }
  int64_t total(const TileExecutor& e) const {
    return spots + scalars + column * e.column_count + row * 2 * e.row_count + slot * (e.slot_count + e.spare_count) +
           kept * e.kept_count;
  }
};

// ---- steps without a loop of their own ----

template <typename T>
const T& element_of(const void* p, int64_t row, int64_t row_stride, int64_t col, int64_t col_stride) {
  return static_cast<const T*>(p)[row * row_stride + col * col_stride];
}

void compute_elements(const TileStep& step, Lane lane, const TileArgs& t) {
  const int bits = bit_size(step.dtype) > 0 ? bit_size(step.dtype) : 64;
  const int arity = scalar_arity(step.op);
  const auto real = [&](auto zero) {
    using T = decltype(zero);
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t i = 0; i < t.cols; ++i) {
        const auto a = static_cast<double>(element_of<T>(t.a, r, t.a_row, i, t.a_col));
        const auto b = arity > 1 ? static_cast<double>(element_of<T>(t.b, r, t.b_row, i, t.b_col)) : 0;
        const auto c = arity > 2 ? static_cast<double>(element_of<T>(t.c, r, t.c_row, i, t.c_col)) : 0;
        static_cast<T*>(t.out)[r * t.out_row + i] = static_cast<T>(scalar_real(step.op, a, b, c));
      }
  };
  if (lane == Lane::f32) return real(float{});
  if (lane == Lane::f64) return real(double{});
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t i = 0; i < t.cols; ++i) {
      const int64_t a = element_of<int64_t>(t.a, r, t.a_row, i, t.a_col);
      const int64_t b = arity > 1 ? element_of<int64_t>(t.b, r, t.b_row, i, t.b_col) : 0;
      const int64_t c = arity > 2 ? element_of<int64_t>(t.c, r, t.c_row, i, t.c_col) : 0;
      static_cast<int64_t*>(t.out)[r * t.out_row + i] = scalar_integer(step.op, a, b, c, step.is_unsigned, bits);
    }
}

void round_elements(const TileStep& step, Lane from, Lane to, const TileArgs& t) {
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t i = 0; i < t.cols; ++i) {
      double v;
      if (from == Lane::f32) {
        v = static_cast<double>(element_of<float>(t.a, r, t.a_row, i, t.a_col));
      } else if (from == Lane::f64) {
        v = element_of<double>(t.a, r, t.a_row, i, t.a_col);
      } else {
        const int64_t n = element_of<int64_t>(t.a, r, t.a_row, i, t.a_col);
        v = step.is_unsigned ? static_cast<double>(static_cast<uint64_t>(n)) : static_cast<double>(n);
      }
      v = decode_float(step.dtype, encode_float(step.dtype, v));
      if (to == Lane::f32)
        static_cast<float*>(t.out)[r * t.out_row + i] = static_cast<float>(v);
      else
        static_cast<double*>(t.out)[r * t.out_row + i] = v;
    }
}

const std::array<float, 256>& narrow_values(DType dtype) {
  const auto make = [](DType d) {
    std::array<float, 256> all{};
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(decode_float(d, i));
    return all;
  };
  static const std::array<std::array<float, 256>, 4> tables = {make(DType::f8e4m3fn), make(DType::f8e4m3fnuz),
                                                               make(DType::f8e5m2), make(DType::f8e5m2fnuz)};
  return tables[static_cast<size_t>(dtype) - static_cast<size_t>(DType::f8e4m3fn)];
}

void load_narrow(DType dtype, const TileArgs& t) {
  const std::array<float, 256>& values = narrow_values(dtype);
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t i = 0; i < t.cols; ++i)
      static_cast<float*>(t.out)[r * t.out_row + i] = values[element_of<uint8_t>(t.a, r, t.a_row, i, t.a_col)];
}

void store_narrow(DType dtype, const TileArgs& t) {
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t i = 0; i < t.cols; ++i)
      static_cast<uint8_t*>(t.out)[r * t.out_row + i * t.out_col] = static_cast<uint8_t>(
          encode_float(dtype, static_cast<double>(element_of<float>(t.a, r, t.a_row, i, t.a_col))));
}

template <typename T>
void spread_elements(const TileArgs& t) {
  for (int64_t r = 0; r < t.rows; ++r) {
    T* out = static_cast<T*>(t.out) + r * t.out_row;
    const T* a = static_cast<const T*>(t.a) + r * t.a_row;
    if (t.a_col == 0)
      std::fill(out, out + t.cols, *a);
    else
      std::copy(a, a + t.cols, out);
  }
}

void spread_elements(Lane lane, const TileArgs& t) {
  if (t.cols == 0) return;
  lane == Lane::f32 ? spread_elements<uint32_t>(t) : spread_elements<uint64_t>(t);
}

// Neutral value of a reduction, n times.
void fill_neutral(const TileStep& step, Lane lane, void* out, int64_t n) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const double real = step.fold == TileFold::add   ? 0
                      : step.fold == TileFold::mul ? 1
                      : step.fold == TileFold::min ? inf
                                                   : -inf;
  if (lane == Lane::f32) {
    std::fill_n(static_cast<float*>(out), n, static_cast<float>(real));
  } else if (lane == Lane::f64) {
    std::fill_n(static_cast<double*>(out), n, real);
  } else {
    const int bits = step.dtype == DType::boolean ? 1 : bit_size(step.dtype);
    const int64_t high =
        bits >= 64 ? std::numeric_limits<int64_t>::max() : (int64_t{1} << (bits - (is_signed(step.dtype) ? 1 : 0))) - 1;
    const int64_t low = is_signed(step.dtype) ? -high - 1 : 0;
    std::fill_n(static_cast<int64_t*>(out), n,
                step.fold == TileFold::add   ? 0
                : step.fold == TileFold::mul ? 1
                : step.fold == TileFold::min ? high
                                             : low);
  }
}

// ---- one call ----

class Run {
 public:
  Run(const TileExecutor& executor, std::span<const TileBuffer> buffers, int64_t cols, void* scratch)
      : e_(executor), buffers_(buffers), cols_(cols), sizes_(executor, cols) {
    auto* at = static_cast<std::byte*>(scratch);
    const auto take = [&at](int64_t bytes) {
      std::byte* p = at;
      at += bytes;
      return p;
    };
    std::byte* spots = take(sizes_.spots);
    home_ = reinterpret_cast<Spot*>(spots);
    tile_ = home_ + e_.values.size();
    scalars_ = take(sizes_.scalars);
    columns_ = take(sizes_.column * e_.column_count);
    rows_ = take(sizes_.row * e_.row_count);
    wide_rows_ = take(sizes_.row * e_.row_count);
    slots_ = take(sizes_.slot * e_.slot_count);
    spares_ = take(sizes_.slot * e_.spare_count);
    kept_ = take(sizes_.kept * e_.kept_count);
  }

  void rows(int64_t begin, int64_t end) {
    if (begin >= end) return;
    // One long row where nothing tells rows apart.
    if (!e_.reduces && e_.column_values.empty() && e_.row_values.empty() && dense(begin, end)) {
      cols_ *= end - begin;
      end = begin + 1;
    }
    width_ = std::min(cols_, e_.tile);
    if (!e_.reduces && cols_ < short_row && (!e_.column_values.empty() || !e_.row_values.empty())) expands_ = true;
    height_ = cols_ == 0 ? e_.tile : std::max<int64_t>(1, e_.tile / cols_);
    if (cols_ > e_.tile) height_ = 1;
    height_ = std::min(height_, end - begin);
    place();
    for (const TileStep& step : e_.scalars) run(step, Section::scalar, 1, 1, begin, 0);
    for (const TileStep& step : e_.columns) run(step, Section::column, 1, cols_, begin, 0);
    if (expands_) repeat_columns();
    for (int64_t r = begin; r < end; r += height_) block(r, std::min(height_, end - r));
  }

 private:
  enum class Section : uint8_t { scalar, column, row, tile };

  // Whether rows of every full operand and result follow each other without gaps.
  bool dense(int64_t begin, int64_t end) const {
    if (end - begin == 1) return true;
    const size_t operands = e_.operands.size();
    for (size_t i = 0; i < buffers_.size(); ++i) {
      const Spread spread = i < operands ? e_.operands[i].spread : e_.results[i - operands].spread;
      if (i >= operands && spread == Spread::row) return false;
      if (spread == Spread::full && (buffers_[i].row_stride != cols_ || buffers_[i].col_stride != 1)) return false;
    }
    return true;
  }

  bool aliased(size_t result) const {
    const void* data = buffers_[e_.operands.size() + result].data;
    for (size_t i = 0; i < e_.operands.size(); ++i)
      if (buffers_[i].data == data) return true;
    return false;
  }

  // Everything that stands still.
  void place() {
    for (size_t n = 0; n < e_.values.size(); ++n) {
      const TileValue& v = e_.values[n];
      Spot& home = home_[n];
      Spot& tile = tile_[n];
      switch (v.home) {
        case Home::constant:
          home = {reinterpret_cast<std::byte*>(const_cast<int64_t*>(&e_.constants[v.number])), 0, 0};
          tile = home;
          break;
        case Home::scalar:
          home = {scalars_ + 8 * v.number, 0, 0};
          tile = home;
          break;
        case Home::column:
          home = {columns_ + sizes_.column * v.number, 0, 1};
          tile = {home.at, expands_ ? cols_ : 0, 1};
          break;
        case Home::row:
          home = {rows_ + sizes_.row * v.number, 0, 1};
          tile = expands_ ? Spot{wide_rows_ + sizes_.row * v.number, cols_, 1} : Spot{home.at, 1, 0};
          break;
        case Home::operand: {
          const TileBuffer& buffer = buffers_[v.number];
          tile = {nullptr, buffer.row_stride, 1};
          if (buffer.col_stride != 1) tile = {spares_ + sizes_.slot * v.spare, width_, 1};
          break;
        }
        case Home::slot: tile = {slots_ + sizes_.slot * v.number, width_, 1}; break;
        case Home::kept: tile = {kept_ + sizes_.kept * v.number, cols_, 1}; break;
      }
      direct(n) = false;
      if (v.result < 0) continue;
      const TileBuffer& buffer = buffers_[e_.operands.size() + static_cast<size_t>(v.result)];
      if (buffer.col_stride == 1 && (v.in_place || !aliased(static_cast<size_t>(v.result)))) {
        direct(n) = true;
        tile.row = buffer.row_stride;
      }
    }
  }

  // Homes of full values are not used; their `col` says whether the value lies in its result.
  int64_t& direct(size_t n) const {
    static_assert(sizeof(Spot) == 24);
    return e_.values[n].spread == Spread::full ? home_[n].col : unused_;
  }

  void repeat_columns() {
    for (uint16_t v : e_.column_values) {
      const int64_t bytes = cols_ * lane_bytes(e_.values[v].lane);
      for (int64_t r = 1; r < height_; ++r)
        std::memcpy(tile_[v].at + r * bytes, tile_[v].at, static_cast<size_t>(bytes));
    }
  }

  void block(int64_t row, int64_t n) {
    for (const TilePass& pass : e_.passes) {
      for (const TileStep& step : pass.rows) run(step, Section::row, 1, n, row, 0);
      if (expands_)
        for (uint16_t v : e_.row_values) {
          TileArgs t;
          t.out = tile_[v].at;
          t.out_row = cols_;
          t.a = home_[v].at;
          t.a_row = 1;
          t.a_col = 0;
          t.rows = n;
          t.cols = cols_;
          spread_elements(e_.values[v].lane, t);
        }
      if (pass.tiles.empty()) continue;
      for (uint16_t f : pass.folds) {
        const TileStep& step = pass.tiles[f];
        fill_neutral(step, e_.values[step.out].lane, home_[step.out].at, n);
      }
      for (int64_t col = 0; col < cols_; col += width_) {
        const int64_t w = std::min(width_, cols_ - col);
        move(pass, row, n, col, w);
        for (const TileStep& step : pass.tiles) run(step, Section::tile, n, w, row, col);
      }
      for (uint16_t f : pass.folds)
        if (pass.tiles[f].mean) divide(home_[pass.tiles[f].out].at, e_.values[pass.tiles[f].out].lane, n);
    }
  }

  void divide(void* sums, Lane lane, int64_t n) const {
    for (int64_t r = 0; r < n; ++r) {
      if (lane == Lane::f32)
        static_cast<float*>(sums)[r] /= static_cast<float>(cols_);
      else
        static_cast<double*>(sums)[r] /= static_cast<double>(cols_);
    }
  }

  void move(const TilePass& pass, int64_t row, int64_t n, int64_t col, int64_t w) {
    for (uint16_t number : pass.moves) {
      const TileValue& v = e_.values[number];
      const int64_t bytes = lane_bytes(v.lane);
      Spot& tile = tile_[number];
      if (v.result >= 0 && direct(number)) {
        const TileBuffer& buffer = buffers_[e_.operands.size() + static_cast<size_t>(v.result)];
        tile.at = static_cast<std::byte*>(buffer.data) + (row * buffer.row_stride + col) * bytes;
      } else if (v.home == Home::operand) {
        const TileBuffer& buffer = buffers_[v.number];
        const int64_t offset = row * buffer.row_stride + col * buffer.col_stride;
        std::byte* at = static_cast<std::byte*>(buffer.data) + offset * bytes;
        if (buffer.col_stride == 1) {
          tile.at = at;
        } else {
          TileArgs t;
          t.out = tile.at;
          t.out_row = width_;
          t.a = at;
          t.a_row = buffer.row_stride;
          t.a_col = buffer.col_stride;
          t.rows = n;
          t.cols = w;
          const TileMemory memory = v.lane == Lane::f32   ? TileMemory::f32
                                    : v.lane == Lane::f64 ? TileMemory::f64
                                                          : TileMemory::i64;
          e_.table->load[static_cast<int>(memory)][static_cast<int>(v.lane)](t);
        }
      } else if (v.home == Home::kept) {
        tile.at = kept_ + sizes_.kept * v.number + col * bytes;
      } else if (v.home == Home::column) {
        tile.at = columns_ + sizes_.column * v.number + col * bytes;
      }
    }
  }

  Spot spot(uint16_t v, Section section) const {
    if (section == Section::tile) return tile_[v];
    Spot s = home_[v];
    const Spread own = e_.values[v].spread;
    s.row = 0;
    s.col = own == Spread::scalar ? 0 : 1;
    return s;
  }

  void run(const TileStep& step, Section section, int64_t rows, int64_t cols, int64_t row, int64_t col) {
    TileArgs t;
    t.rows = rows;
    t.cols = cols;
    // Rows that follow each other are one row to a loop over elements.
    bool follow = rows > 1;
    const auto read = [&](int k, const void*& at, int64_t& row_stride, int64_t& col_stride) {
      if (!(step.reads >> k & 1)) return;
      const Spot s = spot(step.read[k], section);
      at = s.at;
      row_stride = s.row;
      col_stride = s.col;
      follow = follow && s.row == (s.col ? cols : 0);
    };
    read(0, t.a, t.a_row, t.a_col);
    read(1, t.b, t.b_row, t.b_col);
    read(2, t.c, t.c_row, t.c_col);
    if (step.reads > 0b111) {
      read(3, t.d, t.d_row, t.d_col);
      read(4, t.e, t.e_row, t.e_col);
    }
    if (step.is_fold()) {
      t.out = home_[step.out].at;
      step.loop(t);
      return;
    }
    if (!step.is_store()) {
      const Spot s = spot(step.out, section);
      t.out = s.at;
      t.out_row = s.row;
      if (follow && !step.is_load() && s.row == cols) {
        t.cols *= t.rows;
        t.rows = 1;
      }
    }
    switch (step.kind) {
      case TileStep::Kind::loop:
        step.loop(t);
        if (step.then) {
          t.a = t.out;
          t.a_row = t.out_row;
          t.a_col = 1;
          step.then(t);
        }
        break;
      case TileStep::Kind::binary: step.forms[t.a_col == 0 ? form_sv : t.b_col == 0 ? form_vs : form_vv](t); break;
      case TileStep::Kind::select: step.forms[(t.b_col == 0 ? 2 : 0) + (t.c_col == 0 ? 1 : 0)](t); break;
      case TileStep::Kind::pair: e_.table->pair[step.op1][t.b_col == 0][step.op2][t.c_col == 0](t); break;
      case TileStep::Kind::function:
        if (section == Section::tile && e_.ahead >= 0) {
          const TileValue& v = e_.values[static_cast<size_t>(e_.ahead)];
          const TileBuffer& buffer = buffers_[v.number];
          const int64_t next = cols_ > e_.tile ? col + width_ : 0;
          const int64_t distance =
              next < cols_ && next > 0 ? row * buffer.row_stride + next : (row + height_) * buffer.row_stride;
          t.ahead = static_cast<const char*>(buffer.data) + distance * 4;
          t.ahead_row = buffer.row_stride * 4;
        }
        step.loop(t);
        break;
      case TileStep::Kind::norm: e_.table->norm[step.op1][t.d_col == 0][t.e_col == 0](t); break;
      case TileStep::Kind::fold:
      case TileStep::Kind::fold_product:
      case TileStep::Kind::fold_centred: break;
      case TileStep::Kind::load:
      case TileStep::Kind::load_narrow: {
        const TileBuffer& buffer = buffers_[step.index];
        const int64_t width = bit_size(step.dtype) / 8;
        int64_t offset = 0;
        switch (e_.values[step.out].spread) {
          case Spread::scalar: break;
          case Spread::column: t.a_col = buffer.col_stride; break;
          case Spread::row:
            offset = row * buffer.row_stride;
            t.a_col = buffer.row_stride;
            break;
          case Spread::full:
            offset = row * buffer.row_stride + col * buffer.col_stride;
            t.a_row = buffer.row_stride;
            t.a_col = buffer.col_stride;
            break;
        }
        t.a = static_cast<const std::byte*>(buffer.data) + offset * width;
        step.loop ? step.loop(t) : load_narrow(step.dtype, t);
        break;
      }
      case TileStep::Kind::store:
      case TileStep::Kind::store_narrow: {
        const TileValue& v = e_.values[step.read[0]];
        if (v.result == step.index && direct(step.read[0])) break;
        const TileBuffer& buffer = buffers_[e_.operands.size() + step.index];
        const bool per_row = v.spread == Spread::row;
        const int64_t offset = row * buffer.row_stride + (per_row ? 0 : col * buffer.col_stride);
        t.out = static_cast<std::byte*>(buffer.data) + offset * (bit_size(step.dtype) / 8);
        t.out_row = buffer.row_stride;
        t.out_col = per_row ? buffer.row_stride : buffer.col_stride;
        step.loop ? step.loop(t) : store_narrow(step.dtype, t);
        break;
      }
      case TileStep::Kind::spread: spread_elements(e_.values[step.out].lane, t); break;
      case TileStep::Kind::element: compute_elements(step, e_.values[step.out].lane, t); break;
      case TileStep::Kind::round:
        round_elements(step, e_.values[step.read[0]].lane, e_.values[step.out].lane, t);
        break;
    }
  }

  const TileExecutor& e_;
  std::span<const TileBuffer> buffers_;
  int64_t cols_, width_ = 0, height_ = 1;
  bool expands_ = false;
  Sizes sizes_;
  Spot *home_ = nullptr, *tile_ = nullptr;
  std::byte *scalars_, *columns_, *rows_, *wide_rows_, *slots_, *spares_, *kept_;
  mutable int64_t unused_ = 0;
};

}  // namespace

namespace {

// Whether there is compiled code and buffers lie as it takes them.
bool has_code(const TileExecutor& e, std::span<const TileBuffer> buffers) {
  return e.code && std::all_of(e.dense_columns.begin(), e.dense_columns.end(),
                               [&](uint16_t n) { return buffers[n].col_stride == 1; });
}

void run_code(const TileExecutor& e, std::span<const TileBuffer> buffers, int64_t row_begin, int64_t row_end,
              int64_t cols, void* scratch) {
  jit::TileCall call{buffers.data(), row_begin, row_end - row_begin, cols, static_cast<std::byte*>(scratch), 0};
  if (e.code->parts > 0) {
    call.part = rounded_up(cols * 4);
  } else if (call.rows > 1 && e.flattens) {
    bool dense = true;
    for (uint16_t n : e.dense_columns) dense = dense && buffers[n].row_stride == cols;
    if (dense) {
      call.cols *= call.rows;
      call.rows = 1;
    }
  }
  e.code->run(&call);
}

}  // namespace

int64_t tile_scratch(const TileExecutor& executor, int64_t cols) {
  const int64_t interpreted = Sizes(executor, cols).total(executor);
  return executor.code ? std::max(interpreted, executor.code->parts * rounded_up(cols * 4)) : interpreted;
}

TileUnits tile_units(const TileExecutor& executor, std::span<const TileBuffer> buffers) {
  // Reductions take turns over four vectors, of 16 numbers at most; loops do so in each tile.
  constexpr int64_t turn = 64;
  return {has_code(executor, buffers) ? turn : executor.tile, turn};
}

void run_tile(const TileExecutor& executor, std::span<const TileBuffer> buffers, int64_t row_begin, int64_t row_end,
              int64_t cols, void* scratch) {
  if (row_begin >= row_end) return;
  if (has_code(executor, buffers)) return run_code(executor, buffers, row_begin, row_end, cols, scratch);
  Run(executor, buffers, cols, scratch).rows(row_begin, row_end);
}

}  // namespace sinter::cpu
