// Contractions of f32 split into bf16 planes, on AMX tiles; entered after a CPUID test and with permission to use
// tiles.
//
// x = h + m + l, each plane the nearest bf16 of what the planes before it leave. Three terms (hm, hh, mh) of two planes
// err less than TF32 does, six of three planes less than a chain of fp32 multiply-adds; one term is plain bf16. All
// terms of an element add up in one fp32 accumulator of the tile unit, in an order that depends on k and the tap alone.
//
// What can go wrong with infinities shows as NaN, never as a wrong number: blocks with NaN are
// computed again, exactly. The tile unit takes denormal bf16 as zero; with two or more planes that loses what lies
// below 2^-126 of an operand. One file, as its templates inline into one another.
#include <immintrin.h>

#include <type_traits>

#include "backend/cpu/isa/contract.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

#include "backend/cpu/isa/vector_avx512.inc"

#include "backend/cpu/isa/amx_tiles.inc"

#include "backend/cpu/isa/amx_planes.inc"
#include "backend/cpu/isa/amx_weights.inc"

// ---- how one call is cut

// A is split here: with a window what some lines of results reach, as an image; else m_block rows and chunk_steps steps
// at a time, as tiles that lie one after the other, so that they are read in one stream.
struct Shape {
  int64_t k;             // of one tap, after merging
  int64_t steps;         // of 32, over all taps
  int64_t chunk_steps;   // of K, multiplied for all panels before the next ones
  int64_t m_block;       // rows whose planes are made together
  int64_t height;        // rows of a tile
  int64_t block_pixels;  // of a block of C: rows and what lies between them
  int64_t most_pixels;   // that a block has
  Window strip;          // with a window: of the lines whose image is made at once
  int64_t planes_bytes, line_bytes, sums_bytes, ready_bytes, offsets_bytes, total_bytes;
};

// Planes of A stay in the second-level cache while panels of B pass by; so do the sums of a block.
constexpr int64_t planes_limit = 768 << 10, sums_limit = 768 << 10, most_block_pixels = 256;
// Sums of a pair of tiles are finished so many rows at a time: what is stored at once should drain while tiles
// multiply (32 rows at once and their program took a quarter longer). Only bare stores between single products gain by
// more turns than two; a program called for fewer rows costs more than that.
constexpr int64_t turns_wanted = 4, least_turn_rows = 8, most_turn_rows = 16;

// Rows of tiles for so many rows: even tiles where the last one would be nearly empty.
SINTER_INLINE int64_t tile_height(int64_t rows) {
  const int64_t tiles = up_to(rows, 2 * tile_rows) / tile_rows, even = (rows + tiles - 1) / tiles;
  if (rows > tile_rows && 10 * up_to(rows, tile_rows) > 11 * even * tiles) return even;
  return most(least(rows, tile_rows), 1);
}

// `total` in equal parts of at most `limit`, each a multiple of `unit`.
SINTER_INLINE int64_t even_part(int64_t total, int64_t limit, int64_t unit) {
  const int64_t parts = most((total + limit - 1) / limit, 1);
  return up_to((total + parts - 1) / parts, unit);
}

template <int PLANES>
Shape shape_of(const ContractArgs& p, int64_t rows, int64_t cols) {
  Shape s = {};
  s.k = p.k * p.run;
  s.steps = p.taps / p.run * (up_to(s.k, tile_depth) / tile_depth);
  s.chunk_steps = most(s.steps, 1);
  int64_t sums_pixels = 2 * 32;
  if (p.window == nullptr) {
    const int64_t row_bytes = most(s.steps, 1) * PLANES * 64, panels = up_to(cols, panel_columns) / panel_columns;
    s.m_block = even_part(rows, p.m_block > 0 ? p.m_block : most_block_pixels, 32);
    if (s.m_block * row_bytes > planes_limit) {
      // Long rows: K in chunks if the sums of all panels may wait, for as many rows as that allows, else fewer rows:
      // each part of the rows reads all of B.
      const int64_t room = sums_limit / (panels * panel_columns * 4) / 32 * 32;
      if (room >= least(rows, 96)) {
        s.m_block = even_part(rows, least(room, most_block_pixels), 32);
        s.chunk_steps = even_part(s.steps, most(planes_limit / (s.m_block * PLANES * 64), 1), 1);
        if (s.chunk_steps < s.steps) sums_pixels = panels * s.m_block;
      } else {
        s.m_block = even_part(rows, most(planes_limit / row_bytes / 32 * 32, 32), 32);
      }
    }
    s.planes_bytes = s.m_block * s.chunk_steps * PLANES * 64;
    s.block_pixels = s.m_block;
    s.most_pixels = least(rows, s.m_block);
    s.height = tile_height(s.most_pixels);
  } else {
    // As many lines as fit, and no more than the rows reach.
    ContractArgs part = p;
    part.window = &s.strip;
    s.strip = *p.window;
    s.strip.out[0] = 1;
    const int64_t width = p.window->out[2], all = least(p.window->out[1], (rows + width - 2) / width + 1);
    s.strip.out[1] = 1;
    const int64_t one = image_of<PLANES>(part).image;
    s.strip.out[1] = 2;
    const int64_t more = most(image_of<PLANES>(part).image - one, 1);
    s.strip.out[1] = even_part(all, 1 + most(planes_limit - one, 0) / more, 1);
    const Image image = image_of<PLANES>(part);
    s.planes_bytes = up_to(image.image, 64);
    s.line_bytes = line_bytes(p);
    s.most_pixels = s.strip.out[1] * image.extent[2];
    s.block_pixels = even_part(s.most_pixels, most_block_pixels, 32);
    s.height = most(least(s.most_pixels, tile_rows), 1);
  }
  s.sums_bytes = sums_pixels * panel_columns * 4;
  s.ready_bytes = p.epilogue == nullptr ? 0 : most_turn_rows * panel_columns * 4;
  s.offsets_bytes = up_to(s.steps * 8, 64);
  s.total_bytes = s.planes_bytes + s.line_bytes + s.sums_bytes + s.ready_bytes + s.offsets_bytes;
  return s;
}

template <int PLANES>
int64_t scratch_size(const ContractArgs& p, int64_t rows, int64_t cols) {
  return shape_of<PLANES>(p, least(rows, p.m), least(cols, p.n)).total_bytes;
}

// ---- tiles

// What a block of C is multiplied from. In step s the block's row r reads at a + offsets[s] + r / height * tile +
// r % height * row, and the next plane of it `plane` bytes on.
struct Operands {
  const char* a;
  const int64_t* offsets;
  int64_t height;            // rows of a tile
  int64_t row, tile, plane;  // bytes
  const char* b;             // of step 0
  int64_t steps;
  // Rows from there on lie elsewhere.
  int64_t rest_from = INT64_MAX;
  const char* rest = nullptr;

  const char* at(int64_t r) const {
    const char* from = r < rest_from ? a : rest;
    r = r < rest_from ? r : r - rest_from;
    return from + r / height * tile + r % height * row;
  }
};

// MT x NT tiles of C over the steps [first, last), on top of what lies at c when first > 0. While `meanwhile` has turns
// left, one follows every `every` steps: vectors and memory work on it as tiles multiply.
template <int TERMS, int MT, int NT, typename T>
__attribute__((noinline)) void tiles_of(const Operands& o, int64_t first_row, int64_t first, int64_t last, float* c,
                                        Ahead& ahead, int64_t every, T& meanwhile) {
  constexpr int planes = planes_of<TERMS>;
  constexpr int64_t c_stride = panel_columns * 4;
  [[maybe_unused]] const int64_t down = o.height * panel_columns;
  if (first == 0) {
    _tile_zero(0);
    if constexpr (NT == 2) _tile_zero(1);
    if constexpr (MT == 2) _tile_zero(2);
    if constexpr (MT == 2 && NT == 2) _tile_zero(3);
  } else {
    _tile_loadd(0, c, c_stride);
    if constexpr (NT == 2) _tile_loadd(1, c + 16, c_stride);
    if constexpr (MT == 2) _tile_loadd(2, c + down, c_stride);
    if constexpr (MT == 2 && NT == 2) _tile_loadd(3, c + down + 16, c_stride);
  }
  // No store may change them.
  const char* const rows = o.at(first_row);
  const int64_t row = o.row, tile = o.tile;
  [[maybe_unused]] const int64_t plane = o.plane;
  const int64_t* const offsets = o.offsets;
  const char* b = o.b + first * NT * planes * tile_bytes;
  const char* next = ahead.at;
  const int64_t lines = ahead.lines;
  for (int64_t s = first; s < last;) {
    const bool turn = meanwhile.left();
    const int64_t stop = turn ? least(s + every, last) : last;
    for (; s < stop; ++s) {
      const char* a = rows + offsets[s];
      for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
      step_of<TERMS, MT, NT>(a, row, tile, plane, b);
      b += NT * planes * tile_bytes;
    }
    if (turn) meanwhile.turn();
  }
  ahead.at = next;
  _tile_stored(0, c, c_stride);
  if constexpr (NT == 2) _tile_stored(1, c + 16, c_stride);
  if constexpr (MT == 2) _tile_stored(2, c + down, c_stride);
  if constexpr (MT == 2 && NT == 2) _tile_stored(3, c + down + 16, c_stride);
}

// ---- blocks with NaN

SINTER_INLINE float number(const char* at) {
  uint16_t half;
  __builtin_memcpy(&half, at, 2);
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

// A row of C again, in fp32: from row m of A, or from the sums of its planes where A comes as images; NaN stays where
// an operand is NaN.
template <int PLANES>
void repair_row(const ContractArgs& p, const Operands& o, int64_t m, int64_t r, int tiles, float* c) {
  const int64_t tap_steps = up_to(p.k * p.run, tile_depth) / tile_depth;
  for (int tile = 0; tile < tiles; ++tile) {
    Vec sum = {};
    const char* b = o.b + tile * PLANES * tile_bytes;
    for (int64_t s = 0; s < o.steps; ++s, b += tiles * PLANES * tile_bytes) {
      for (int64_t k = 0; k < tile_depth; ++k) {
        float x = 0;
        const int64_t at = s % tap_steps * tile_depth + k;
        if (at >= p.k * p.run) break;  // behind the last tap's numbers lie others
        if (p.window == nullptr) {
          x = p.a[m * p.lda + at];
        } else {
          for (int plane = PLANES - 1; plane >= 0; --plane)
            x += number(o.at(r) + o.offsets[s] + plane * o.plane + k * 2);
        }
        __m512 y = _mm512_setzero_ps();
        for (int plane = PLANES - 1; plane >= 0; --plane) {
          // Two k share a lane: the even one in the low half.
          const __m512i pair = _mm512_loadu_si512(b + plane * tile_bytes + k / 2 * 64);
          const __m512i value =
              k % 2 == 0 ? _mm512_slli_epi32(pair, 16) : _mm512_and_si512(pair, _mm512_set1_epi32(-65536));
          y = _mm512_add_ps(y, _mm512_castsi512_ps(value));
        }
        if (x != x) return;  // the whole row is NaN
        sum += splat(x) * reinterpret_cast<const Vec&>(y);
      }
    }
    store(c + tile * 16, sum);
  }
}

SINTER_INLINE bool has_nan(const float* c, int tiles) {
  const __m512 v = _mm512_loadu_ps(c), w = _mm512_loadu_ps(c + 16);
  const __mmask16 first = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), second = _mm512_cmp_ps_mask(w, w, _CMP_UNORD_Q);
  return tiles == 2 ? (first | second) != 0 : first != 0;
}

// ---- a call

enum class Bounds { none, low, both };

SINTER_INLINE __m512 load_first(__mmask16 lanes, const float* from) { return _mm512_maskz_loadu_ps(lanes, from); }
SINTER_INLINE __m512 load_first(__mmask16 lanes, const uint16_t* from) {
  return widen(_mm256_maskz_loadu_epi16(lanes, from));
}

// Adds bias, what the sums start from or `added` to them, applies bounds. True when a sum is NaN and that is CHECKed.
// T, A: elements of what is stored and added.
template <bool WHOLE, bool CHECK, Bounds BOUNDS, typename T, typename A>
bool finish_columns(const ContractArgs& p, const float* block, int64_t rows, int64_t n, int64_t cols, T* to,
                    const A* added, int64_t stride) {
  const __m512 low = _mm512_set1_ps(p.low), high = _mm512_set1_ps(p.high), none = _mm512_setzero_ps();
  const __mmask16 first = WHOLE ? __mmask16{0xffff} : first_lanes(cols);
  const __mmask16 second = WHOLE ? __mmask16{0xffff} : first_lanes(cols - 16);
  const __m512 bias0 = p.bias == nullptr ? none : _mm512_maskz_loadu_ps(first, p.bias + n);
  const __m512 bias1 = p.bias == nullptr || cols <= 16 ? none : _mm512_maskz_loadu_ps(second, p.bias + n + 16);
  __mmask16 nan = 0;
  for (int64_t r = 0; r < rows; ++r, block += panel_columns, to += stride) {
    __m512 v0 = _mm512_loadu_ps(block), v1 = _mm512_loadu_ps(block + 16);
    if constexpr (!WHOLE) {
      v0 = _mm512_maskz_mov_ps(first, v0);
      v1 = _mm512_maskz_mov_ps(second, v1);
    }
    if constexpr (CHECK) nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(v0, v1, _CMP_UNORD_Q));
    v0 = _mm512_add_ps(v0, bias0);
    v1 = _mm512_add_ps(v1, bias1);
    if constexpr (!std::is_void_v<A>) {
      v0 = _mm512_add_ps(v0, load_first(first, added));
      if (WHOLE || cols > 16) v1 = _mm512_add_ps(v1, load_first(second, added + 16));
      added += stride;
    }
    if constexpr (BOUNDS != Bounds::none) {
      v0 = _mm512_max_ps(low, v0);
      v1 = _mm512_max_ps(low, v1);
    }
    if constexpr (BOUNDS == Bounds::both) {
      v0 = _mm512_min_ps(high, v0);
      v1 = _mm512_min_ps(high, v1);
    }
    if constexpr (!std::is_same_v<T, float>) {
      const __m512bh rounded = _mm512_cvtne2ps_pbh(v1, v0);
      __m512i both;
      __builtin_memcpy(&both, &rounded, sizeof(both));
      if constexpr (WHOLE) {
        _mm512_storeu_si512(to, both);
      } else {
        _mm512_mask_storeu_epi16(to, first_halves(cols), both);
      }
    } else if constexpr (WHOLE) {
      _mm512_storeu_ps(to, v0);
      _mm512_storeu_ps(to + 16, v1);
    } else {
      _mm512_mask_storeu_ps(to, first, v0);
      if (cols > 16) _mm512_mask_storeu_ps(to + 16, second, v1);
    }
  }
  return nan != 0;
}

template <bool CHECK, typename T, typename A>
bool finish_rows(const ContractArgs& p, const float* block, int64_t rows, int64_t n, int64_t cols, T* to,
                 const A* added, int64_t stride) {
  if (cols != panel_columns)
    return finish_columns<false, CHECK, Bounds::both>(p, block, rows, n, cols, to, added, stride);
  if (!std::is_void_v<A> || p.high < contract_no_bound)
    return finish_columns<true, CHECK, Bounds::both>(p, block, rows, n, cols, to, added, stride);
  if (p.low > -contract_no_bound)
    return finish_columns<true, CHECK, Bounds::low>(p, block, rows, n, cols, to, added, stride);
  return finish_columns<true, CHECK, Bounds::none>(p, block, rows, n, cols, to, added, stride);
}

// How rows of C lie among pixels: `width` rows, then what is no row up to `pitch`.
struct Lines {
  int64_t width, pitch, first;  // first: position of row 0 in its line
  bool gaps() const { return width != pitch; }
  int64_t pixel_of(int64_t row) const {
    return gaps() ? (first + row) / width * pitch + (first + row) % width - first : row;
  }
  // Rows whose pixels are among the first `pixels`.
  int64_t rows_within(int64_t pixels) const {
    if (!gaps()) return pixels;
    const int64_t end = first + pixels;
    return end / pitch * width + least(end % pitch, width) - first;
  }
};

// Rows [m, m + rows) of C of one panel.
struct Block {
  int64_t m, rows, n, cols;
  Operands operands;
  int64_t finished = 0;  // rows
};

// Sums of a block's pixels from `begin` on that tiles have left behind the last step.
struct Sums {
  const float* at;
  int64_t begin;
};

// The block's next rows, up to `rows`, in order.
template <int TERMS, bool CHECK>
__attribute__((noinline)) void finish_sums(const ContractArgs& p, const Lines& lines, Block& b, const Sums& sums,
                                           float* ready, int64_t rows) {
  constexpr int planes = planes_of<TERMS>;
  const int tiles = b.cols > 16 ? 2 : 1;
  const int64_t begin = b.finished;
  while (b.finished < rows) {
    const int64_t r = b.finished, at = lines.pixel_of(r);
    const int64_t run = lines.gaps() ? least(rows - r, lines.width - (lines.first + r) % lines.width) : rows - r;
    const float* from = sums.at + (at - sums.begin) * panel_columns;
    const auto finish = [&](const float* block, int64_t first, int64_t count) {
      constexpr const void* nothing = nullptr;
      if (p.epilogue != nullptr) {
        float* to = ready + (r + first - begin) * panel_columns;
        return finish_rows<CHECK>(p, block, count, b.n, b.cols, to, nothing, panel_columns);
      }
      const int64_t place = (b.m + r + first) * p.ldc + b.n;
      const auto store = [&](auto* to, const auto* added) {
        return finish_rows<CHECK>(p, block, count, b.n, b.cols, to, added, p.ldc);
      };
      if constexpr (TERMS == 1) {
        if (p.narrow_c != nullptr) {
          if (p.narrow_residual != nullptr) return store(p.narrow_c + place, p.narrow_residual + place);
          return p.residual != nullptr ? store(p.narrow_c + place, p.residual + place)
                                       : store(p.narrow_c + place, nothing);
        }
        if (p.narrow_residual != nullptr) return store(p.c + place, p.narrow_residual + place);
      }
      float* to = p.c + place;
      if (p.accumulate) return store(to, static_cast<const float*>(to));
      return p.residual != nullptr ? store(to, p.residual + place) : store(to, nothing);
    };
    const auto wrong = [&](int64_t i) { return has_nan(from + i * panel_columns, tiles); };
    const auto again = [&](int64_t i) {
      alignas(64) float row[panel_columns];
      __builtin_memcpy(row, from + i * panel_columns, sizeof(row));
      repair_row<planes>(p, b.operands, b.m + r + i, at + i, tiles, row);
      finish(row, i, 1);
    };
    const bool once = p.accumulate || p.residual != nullptr || p.narrow_residual != nullptr;
    bool any = false;
    if (CHECK && once)
      for (int64_t i = 0; i < run; ++i) any = any | wrong(i);
    if (any) {
      for (int64_t i = 0; i < run; ++i) {
        if (wrong(i))
          again(i);
        else
          finish(from + i * panel_columns, i, 1);
      }
    } else if (finish(from, 0, run) && CHECK && !once) {
      for (int64_t i = 0; i < run; ++i)
        if (wrong(i)) again(i);
    }
    b.finished += run;
  }
  if (p.epilogue != nullptr) p.epilogue(p.user, b.m + begin, rows - begin, b.n, b.cols, ready, panel_columns);
}

// Where a call's numbers stand on their way.
struct Room {
  float* sums;   // of two pairs of tiles that take turns, or of all panels where K comes in several chunks
  float* ready;  // rows of a turn, for the epilogue
};

// What tiles have left behind the last step, finished in turns while the next ones multiply.
template <int TERMS>
struct Waiting {
  const ContractArgs& p;
  const Lines& lines;
  float* ready;
  int64_t turn_rows;
  Block* block = nullptr;
  Sums sums = {};
  int64_t rows_end = 0;  // of the block, among the sums

  bool left() const { return block != nullptr && block->finished < rows_end; }
  void turn() {
    const int64_t rows = least(block->finished + turn_rows, rows_end);
    // An infinite operand makes NaN of what is not, save where bf16 is all that is wanted and no zeros are multiplied.
    if (TERMS > 1 || p.run > 1)
      finish_sums<TERMS, true>(p, lines, *block, sums, ready, rows);
    else
      finish_sums<TERMS, false>(p, lines, *block, sums, ready, rows);
  }
  void rest() {
    while (left()) turn();
  }
  // `end`: the first pixel that has no sums yet.
  void put(Block& of, const Sums& made, int64_t end) {
    block = &of;
    sums = made;
    rows_end = least(of.rows, lines.rows_within(end));
  }
};

// `rows` rows of C over the steps [first, last) of all panels.
template <int TERMS>
void run_block(const ContractArgs& p, const Shape& s, Operands o, const Lines& lines, int64_t m, int64_t rows,
               int64_t n_begin, int64_t n_end, int64_t first, int64_t last, const Room& room) {
  constexpr int planes = planes_of<TERMS>;
  const int64_t pixels = lines.pixel_of(rows - 1) + 1, height = o.height;
  const int64_t pairs = (pixels + 2 * height - 1) / (2 * height);
  const int64_t tile_column = s.steps * planes * tile_bytes;
  const int64_t every = most((last - first) / turns_wanted, 1), turns = most((last - first) / every, 1);
  Waiting<TERMS> waiting = {p, lines, room.ready, most_turn_rows};
  if (TERMS == 1 && p.epilogue == nullptr)
    waiting.turn_rows = most(least_turn_rows, least(most_turn_rows, up_to((2 * height + turns - 1) / turns, 4)));
  Block blocks[2] = {};
  int64_t turn = 0;
  for (int64_t n = n_begin; n < n_end; n += panel_columns) {
    const int64_t cols = least(panel_columns, n_end - n);
    const int tiles = cols > 16 ? 2 : 1;
    o.b = reinterpret_cast<const char*>(p.b) + n / 16 * tile_column;
    // The last pair of a panel is finished beside the first of the next.
    const int64_t panel = (n - n_begin) / panel_columns;
    Block& now = blocks[panel % 2];
    now = {m, rows, n, cols, o};
    // The next panel's steps come nearer. Panels that are read once are one stream, which needs no help.
    Ahead ahead = {o.b + tiles * (tile_column + first * planes * tile_bytes),
                   pixels <= height ? 0 : (tiles * planes * 16 + pairs - 1) / pairs};
    for (int64_t i = 0; i < pixels; i += 2 * height) {
      const int64_t place = s.chunk_steps < s.steps ? panel * s.block_pixels + i : turn++ % 2 * 32;
      float* c = room.sums + place * panel_columns;
      const bool two = pixels - i > height;
      if (two && tiles == 2) {
        tiles_of<TERMS, 2, 2>(o, i, first, last, c, ahead, every, waiting);
      } else if (two) {
        tiles_of<TERMS, 2, 1>(o, i, first, last, c, ahead, every, waiting);
      } else if (tiles == 2) {
        tiles_of<TERMS, 1, 2>(o, i, first, last, c, ahead, every, waiting);
      } else {
        tiles_of<TERMS, 1, 1>(o, i, first, last, c, ahead, every, waiting);
      }
      if (last < s.steps) continue;
      waiting.rest();
      waiting.put(now, {c, i}, least(pixels, i + 2 * height));
    }
  }
  waiting.rest();
}

// Whether tiles are loaded from an A of bf16 where it lies: whole steps of K, and rows that do not all meet in one set
// of the first-level cache.
bool reads_in_place(const ContractArgs& p, const Shape& s) {
  return s.k > 0 && s.k % tile_depth == 0 && p.lda == s.k && s.chunk_steps == s.steps && p.lda % 2048 != 0;
}

template <int TERMS, typename T>
void run_matrix(const ContractArgs& p, const Shape& s, Operands o, int64_t* offsets, char* own_planes, int64_t m_begin,
                int64_t m_end, int64_t n_begin, int64_t n_end, const Room& room) {
  constexpr int planes = planes_of<TERMS>;
  const T* const a = operand_of(p, static_cast<const T*>(nullptr));
  if constexpr (!std::is_same_v<T, float>) {
    if (reads_in_place(p, s)) {
      o.row = p.lda * 2;
      o.tile = o.height * o.row;
      for (int64_t i = 0; i < s.steps; ++i) offsets[i] = i * 64;
      for (int64_t m = m_begin; m < m_end; m += s.m_block) {
        const int64_t rows = least(s.m_block, m_end - m);
        o.a = reinterpret_cast<const char*>(a + m * p.lda);
        if (rows % o.height != 0) {
          // Tiles that are not whole would read beyond the operand.
          o.rest_from = rows / (2 * o.height) * (2 * o.height);
          o.rest = own_planes;
          const int64_t bytes = (rows - o.rest_from) * o.row;
          __builtin_memcpy(own_planes, o.a + o.rest_from * o.row, static_cast<size_t>(bytes));
        }
        run_block<TERMS>(p, s, o, {rows, rows, 0}, m, rows, n_begin, n_end, 0, s.steps, room);
      }
      return;
    }
  }
  o.row = 64;
  o.plane = tile_bytes;
  o.tile = s.chunk_steps * planes * tile_bytes;
  o.a = own_planes;
  for (int64_t i = 0; i < s.steps; ++i) offsets[i] = i % s.chunk_steps * planes * tile_bytes;
  for (int64_t m = m_begin; m < m_end; m += s.m_block) {
    const int64_t rows = least(s.m_block, m_end - m);
    for (int64_t first = 0; first < s.steps || first == 0; first += s.chunk_steps) {
      const int64_t last = least(s.steps, first + s.chunk_steps), k = first * tile_depth;
      // No store may change them.
      const int64_t count = least(s.k, last * tile_depth) - k, lda = p.lda, height = o.height, next = o.tile;
      const T* from = a + m * lda + k;
      char* to = own_planes;
      // NaN is looked for, and repaired from A itself.
      for (int64_t r = 0, below = height; r < rows; ++r, from += lda, to += 64) {
        if (r == below) {
          below += height;
          to += next - height * 64;
        }
        split_row<planes, false>(from, count, to, tile_bytes);
      }
      run_block<TERMS>(p, s, o, {rows, rows, 0}, m, rows, n_begin, n_end, first, last, room);
    }
  }
}

template <int TERMS, typename T>
void run_images(const ContractArgs& p, const Shape& s, Operands o, int64_t* offsets, char* planes, float* line,
                int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, const Room& room) {
  constexpr int plane_count = planes_of<TERMS>;
  const Window& w = *p.window;
  Window strip = s.strip;
  ContractArgs part = p;
  part.window = &strip;
  const Image image = image_of<plane_count>(part);
  o.a = planes;
  o.row = image.pixel;
  o.plane = image.plane;
  o.tile = o.height * image.pixel;
  const int64_t step_bytes = p.run > 1 ? tile_depth * 2 : plane_count * tile_depth * 2;
  int64_t* to = offsets;
  for (int64_t d = 0; d < w.kernel[0]; ++d)
    for (int64_t h = 0; h < w.kernel[1]; ++h)
      for (int64_t x = 0; x < w.kernel[2] / p.run; ++x) {
        const int64_t at[3] = {d * w.dilation[0], h * w.dilation[1], x * w.dilation[2]};
        const int64_t in_part = ((at[0] % w.stride[0] * image.parts[1] + at[1] % w.stride[1]) * image.parts[2] +
                                 (p.run > 1 ? 0 : at[2] % w.stride[2])) *
                                image.part;
        const int64_t row = (at[0] / w.stride[0] * image.extent[1] + at[1] / w.stride[1]) * image.row;
        for (int64_t k = 0; k < s.k; k += tile_depth)
          *to++ = in_part + row + at[2] / w.stride[2] * image.pixel + k / tile_depth * step_bytes;
      }
  const int64_t slice = w.out[1] * w.out[2];
  for (int64_t m = m_begin; m < m_end;) {
    const int64_t at = m % slice, number = m / slice, y = at / w.out[2];
    const int64_t last = least(least(slice, at + m_end - m), (y + strip.out[1]) * w.out[2]);
    strip.pad[0] = w.pad[0] - number % w.out[0] * w.stride[0];
    strip.pad[1] = w.pad[1] - y * w.stride[1];
    split_image<plane_count>(part, image,
                             operand_of(p, static_cast<const T*>(nullptr)) + number / w.out[0] * p.image_stride,
                             (last - 1) / w.out[2] - y + 1, planes, line);
    for (int64_t r = at; r < last;) {
      const Lines lines = {w.out[2], image.extent[2], r % w.out[2]};
      const int64_t rows = least(last - r, lines.rows_within(s.block_pixels));
      o.a = planes + (r / w.out[2] - y) * image.row + r % w.out[2] * image.pixel;
      run_block<TERMS>(p, s, o, lines, m + r - at, rows, n_begin, n_end, 0, s.steps, room);
      r += rows;
    }
    m += last - at;
  }
}

template <int TERMS, typename T>
void chunk_of(const ContractArgs& p, int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, void* scratch) {
  if (m_begin >= m_end || n_begin >= n_end) return;
  const Shape s = shape_of<planes_of<TERMS>>(p, m_end - m_begin, n_end - n_begin);
  char* const planes = static_cast<char*>(scratch);
  float* line = reinterpret_cast<float*>(planes + s.planes_bytes);
  char* const sums = planes + s.planes_bytes + s.line_bytes;
  const Room room = {reinterpret_cast<float*>(sums), reinterpret_cast<float*>(sums + s.sums_bytes)};
  int64_t* offsets = reinterpret_cast<int64_t*>(sums + s.sums_bytes + s.ready_bytes);
  configure_tiles(s.height);
  Operands o = {};
  o.height = s.height;
  o.steps = s.steps;
  o.offsets = offsets;
  if (p.window == nullptr)
    run_matrix<TERMS, T>(p, s, o, offsets, planes, m_begin, m_end, n_begin, n_end, room);
  else
    run_images<TERMS, T>(p, s, o, offsets, planes, line, m_begin, m_end, n_begin, n_end, room);
  _tile_release();
}

template <int TERMS>
void chunk(const ContractArgs& p, int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, void* scratch) {
  if constexpr (TERMS == 1)
    if (p.narrow_a != nullptr) return chunk_of<TERMS, uint16_t>(p, m_begin, m_end, n_begin, n_end, scratch);
  chunk_of<TERMS, float>(p, m_begin, m_end, n_begin, n_end, scratch);
}

// ---- tables

int panel_width(int64_t) { return panel_columns; }

void unpacked(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t k_stride, int64_t n_stride,
              int64_t n_begin, int64_t n_end, float* c, int64_t ldc) {
  contract_avx512.unpacked(m, k, a, lda, b, k_stride, n_stride, n_begin, n_end, c, ldc);
}

void transpose(const void* src, int64_t rows, int64_t cols, int64_t src_stride, void* dst, int64_t dst_stride) {
  contract_avx512.transpose(src, rows, cols, src_stride, dst, dst_stride);
}

template <int TERMS>
constexpr ContractTable table_of() {
  constexpr int planes = planes_of<TERMS>;
  return {16,           panel_columns, planes,   panel_width, packed_size<planes>, pack_b<planes>, scratch_size<planes>,
          chunk<TERMS>, unpacked,      transpose};
}

}  // namespace

extern const ContractTable contract_amx_bf16 = table_of<1>();
extern const ContractTable contract_amx_bf16x3 = table_of<3>();
extern const ContractTable contract_amx_bf16x6 = table_of<6>();

}  // namespace sinter::cpu
