// Contractions of f32 split into bf16 planes, on AMX tiles; entered after a CPUID test and with permission to use
// tiles.
//
// x = h + m + l, each plane the nearest bf16 of what the planes before it leave. Three terms (hm, hh, mh) of two planes
// err less than TF32 does, six of three planes less than a chain of fp32 multiply-adds; one term is plain bf16. All
// terms of an element add up in one fp32 accumulator of the tile unit, in an order that depends on k and the tap alone.
//
// Values that round to infinity are held at the largest bf16 in every plane but the last, so an infinite operand stands
// in the last plane only. What can go wrong with infinities shows as NaN, never as a wrong number: blocks with NaN are
// computed again, exactly. The tile unit takes denormal bf16 as zero; with two or more planes that loses what lies
// below 2^-126 of an operand.
#include <immintrin.h>

#include "backend/cpu/isa/contract.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

#include "backend/cpu/isa/vector_avx512.inc"

SINTER_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
SINTER_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
SINTER_INLINE int64_t up_to(int64_t a, int64_t unit) { return (a + unit - 1) / unit * unit; }

constexpr int64_t tile_rows = 16, tile_depth = 32, tile_bytes = 1024;
constexpr int panel_columns = 32;  // two tiles

template <int TERMS>
constexpr int planes_of = TERMS == 1   ? 1
                          : TERMS == 3 ? 2
                                       : 3;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig tile_config;

// ---- planes

constexpr float largest_bf16 = 3.3895313892515355e38f;

// Keeps finite what would round to infinity; NaN passes.
SINTER_INLINE __m512 bounded(__m512 x) {
  const __m512 top = _mm512_set1_ps(largest_bf16);
  return _mm512_max_ps(_mm512_set1_ps(-largest_bf16), _mm512_min_ps(top, x));
}

SINTER_INLINE __m512 widen(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// 32 numbers into the planes' 32 bf16 each.
template <int PLANES>
SINTER_INLINE void split(__m512 x0, __m512 x1, __m512i* planes) {
#pragma GCC unroll 3
  for (int i = 0; i < PLANES; ++i) {
    const bool last = i + 1 == PLANES;
    const __m512bh rounded = last ? _mm512_cvtne2ps_pbh(x1, x0) : _mm512_cvtne2ps_pbh(bounded(x1), bounded(x0));
    __builtin_memcpy(&planes[i], &rounded, sizeof(rounded));
    if (!last) {
      x0 = _mm512_sub_ps(x0, widen(_mm512_castsi512_si256(planes[i])));
      x1 = _mm512_sub_ps(x1, widen(_mm512_extracti64x4_epi64(planes[i], 1)));
    }
  }
}

SINTER_INLINE __mmask16 first_lanes(int64_t n) {
  return n >= 16 ? static_cast<__mmask16>(0xffff) : n <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << n) - 1);
}

// K numbers into a pixel: [step][plane][32].
template <int PLANES>
SINTER_INLINE void split_pixel(const float* from, int64_t k, char* to) {
  __m512i planes[PLANES];
  for (int64_t i = 0; i < k; i += tile_depth, to += PLANES * 64) {
    const __m512 x0 = _mm512_maskz_loadu_ps(first_lanes(k - i), from + i);
    const __m512 x1 = _mm512_maskz_loadu_ps(first_lanes(k - i - 16), from + i + 16);
    split<PLANES>(x0, x1, planes);
#pragma GCC unroll 3
    for (int p = 0; p < PLANES; ++p) _mm512_storeu_si512(to + p * 64, planes[p]);
  }
}

// Bytes from pixel to pixel; not a large power of two, which would put the rows of a tile into few sets of the cache.
template <int PLANES>
SINTER_INLINE int64_t pixel_bytes(int64_t k) {
  const int64_t bytes = up_to(k, tile_depth) / tile_depth * PLANES * 64;
  return bytes >= 512 ? bytes + 64 : most(bytes, 64);
}

// ---- images as planes

struct Image {
  int64_t extent[3], parts[3];  // of one part; parts by axis
  int64_t pixel, part, image;   // bytes
};

// With `run` taps of a row as one, a pixel holds all that they reach.
template <int PLANES>
Image image_of(const ContractArgs& p) {
  const Window& w = *p.window;
  Image out = {};
  out.pixel = pixel_bytes<PLANES>(p.k * p.run);
  int64_t pixels = 1, parts = 1;
  for (int d = 0; d < 3; ++d) {
    const int64_t taps = d == 2 ? w.kernel[d] / p.run : w.kernel[d];
    const int64_t reach = (taps - 1) * w.dilation[d];
    out.extent[d] = w.out[d] + reach / w.stride[d];
    // Remainders of 0, dilation, 2 * dilation ...: all below the largest are kept, used or not.
    out.parts[d] = least(reach + 1, w.stride[d]);
    pixels *= out.extent[d];
    parts *= out.parts[d];
  }
  out.part = pixels * out.pixel;
  // Tiles at the end read further than the last pixel.
  out.image = up_to(out.part * parts + 2 * tile_rows * out.pixel, 64);
  return out;
}

template <int PLANES>
int64_t image_rows(const ContractArgs& p) {
  const Image i = image_of<PLANES>(p);
  return i.extent[0] * i.parts[0] * i.extent[1] * i.parts[1];
}

template <int PLANES>
int64_t image_bytes(const ContractArgs& p) {
  return image_of<PLANES>(p).image;
}

// A line of the image that pixels of several taps are cut from, with zeros around it.
int64_t line_floats(const ContractArgs& p) {
  const Window& w = *p.window;
  return p.run == 1 && p.channel_stride == 1 ? 0 : ((w.out[2] - 1) * w.stride[2] + w.kernel[2] + w.in[2]) * p.k;
}

int64_t image_scratch(const ContractArgs& p) { return line_floats(p) * 4; }

template <int PLANES>
void split_images(const ContractArgs& p, const float* image, int64_t begin, int64_t end, char* to, void* scratch) {
  const Window& w = *p.window;
  const Image s = image_of<PLANES>(p);
  const int64_t k = p.k * p.run, floats = line_floats(p);
  float* line = floats > 0 ? static_cast<float*>(scratch) : nullptr;
  for (int64_t row = begin; row < end; ++row) {
    int64_t rest = row;
    const int64_t y = rest % s.extent[1];
    rest /= s.extent[1];
    const int64_t y_part = rest % s.parts[1];
    rest /= s.parts[1];
    const int64_t z = rest % s.extent[0], z_part = rest / s.extent[0];
    const int64_t d = z * w.stride[0] + z_part - w.pad[0], h = y * w.stride[1] + y_part - w.pad[1];
    const bool inside = d >= 0 && d < w.in[0] && h >= 0 && h < w.in[1];
    const float* from = image + (inside ? (d * w.in[1] + h) * w.in[2] * p.lda : 0);
    if (inside && line != nullptr) {
      // line[pad + x][k], zeros on both sides.
      for (int64_t i = 0; i < w.pad[2] * p.k && i < floats; ++i) line[i] = 0;
      const int64_t columns = most(least(w.in[2], floats / most(p.k, 1) - w.pad[2]), 0);
      float* at = line + w.pad[2] * p.k;
      for (int64_t x = 0; x < columns; ++x)
        for (int64_t c = 0; c < p.k; ++c) *at++ = from[x * p.lda + c * p.channel_stride];
      for (; at < line + floats; ++at) *at = 0;
    }
    for (int64_t x_part = 0; x_part < s.parts[2]; ++x_part) {
      char* out = to + ((z_part * s.parts[1] + y_part) * s.parts[2] + x_part) * s.part +
                  (z * s.extent[1] + y) * s.extent[2] * s.pixel;
      for (int64_t i = 0; i < s.extent[2]; ++i, out += s.pixel) {
        const int64_t x = i * w.stride[2] + x_part;  // from the left end of the padding
        if (inside && line != nullptr) {
          split_pixel<PLANES>(line + x * p.k, k, out);
        } else if (inside && x >= w.pad[2] && x - w.pad[2] < w.in[2]) {
          split_pixel<PLANES>(from + (x - w.pad[2]) * p.lda, k, out);
        } else {
          for (int64_t b = 0; b < up_to(k, tile_depth) * PLANES * 2; b += 64)
            _mm512_storeu_si512(out + b, _mm512_setzero_si512());
        }
      }
    }
  }
}

template <int PLANES>
constexpr PlaneImages images = {image_rows<PLANES>, image_bytes<PLANES>, image_scratch, split_images<PLANES>};

// ---- how one call is cut

struct Shape {
  int64_t k, taps;    // after merging
  int64_t tap_steps;  // of 32
  int64_t pixel;      // bytes
  int64_t m_block, block_rows;
  int64_t planes_bytes, block_bytes, taps_bytes, total_bytes;
};

// Rows of a panel's block that an epilogue is called for.
constexpr int64_t epilogue_block_rows = 128;

template <int PLANES>
Shape shape_of(const ContractArgs& p, int64_t rows) {
  constexpr int64_t planes_limit = 768 << 10;
  Shape s = {};
  s.k = p.k * p.run;
  s.taps = p.taps / p.run;
  s.tap_steps = up_to(s.k, tile_depth) / tile_depth;
  s.pixel = pixel_bytes<PLANES>(s.k);
  s.block_rows = up_to(p.epilogue_rows > 0 ? p.epilogue_rows : epilogue_block_rows, 32);
  if (p.window == nullptr) {
    int64_t limit = p.m_block > 0 ? p.m_block : most(planes_limit / s.pixel, 32);
    if (limit < rows) {
      const int64_t parts = (rows + limit - 1) / limit;
      limit = (rows + parts - 1) / parts;
    }
    s.m_block = up_to(least(limit, rows), 32);
    s.planes_bytes = s.m_block * s.pixel;
  } else {
    s.m_block = rows;
    s.taps_bytes = up_to(s.taps * 8, 64);
  }
  s.block_bytes = s.block_rows * panel_columns * 4;
  s.total_bytes = s.planes_bytes + s.block_bytes + s.taps_bytes;
  return s;
}

template <int PLANES>
int64_t scratch_size(const ContractArgs& p, int64_t rows) {
  return shape_of<PLANES>(p, least(rows, p.m)).total_bytes;
}

// ---- tiles: 0 to 3 accumulate, 4 and 5 hold A, 6 and 7 hold B

template <int MT>
SINTER_INLINE void load_a(const char* a, int64_t pixel) {
  _tile_loadd(4, a, pixel);
  if constexpr (MT == 2) _tile_loadd(5, a + tile_rows * pixel, pixel);
}

template <int NT>
SINTER_INLINE void load_b(const char* b, int64_t next) {
  _tile_loadd(6, b, 64);
  if constexpr (NT == 2) _tile_loadd(7, b + next, 64);
}

template <int MT, int NT>
SINTER_INLINE void multiply() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (NT == 2) _tile_dpbf16ps(1, 4, 7);
  if constexpr (MT == 2) _tile_dpbf16ps(2, 5, 6);
  if constexpr (MT == 2 && NT == 2) _tile_dpbf16ps(3, 5, 7);
}

// What a block of C is multiplied from. Tap t of the block's row r is the pixel at a + taps[t] + r * pixel.
struct Operands {
  const char* a;
  const int64_t* tap_offsets;
  int64_t taps, tap_steps, pixel;
  const char* b;
};

// Lines to bring nearer while tiles multiply.
struct Ahead {
  const char* at;
  int64_t lines;  // a step
};

// MT x NT tiles of C over all steps.
template <int TERMS, int MT, int NT>
void tiles_of(const Operands& o, int64_t row, float* c, Ahead& ahead) {
  constexpr int planes = planes_of<TERMS>;
  constexpr int64_t b_next = planes * tile_bytes;
  _tile_zero(0);
  if constexpr (NT == 2) _tile_zero(1);
  if constexpr (MT == 2) _tile_zero(2);
  if constexpr (MT == 2 && NT == 2) _tile_zero(3);
  const char* b = o.b;
  const int64_t pixel = o.pixel;
  const char* next = ahead.at;
  const int64_t lines = ahead.lines;
  for (int64_t t = 0; t < o.taps; ++t) {
    const char* a = o.a + o.tap_offsets[t] + row * pixel;
    for (int64_t s = 0; s < o.tap_steps; ++s) {
      for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
      // Small terms first where that costs no load.
      if constexpr (TERMS == 1) {
        load_a<MT>(a, pixel);
        load_b<NT>(b, b_next);
        multiply<MT, NT>();
      } else if constexpr (TERMS == 3) {
        load_a<MT>(a + 64, pixel);
        load_b<NT>(b, b_next);
        multiply<MT, NT>();
        load_a<MT>(a, pixel);
        multiply<MT, NT>();
        load_b<NT>(b + tile_bytes, b_next);
        multiply<MT, NT>();
      } else {
        load_a<MT>(a + 128, pixel);
        load_b<NT>(b, b_next);
        multiply<MT, NT>();
        load_a<MT>(a + 64, pixel);
        multiply<MT, NT>();
        load_b<NT>(b + tile_bytes, b_next);
        multiply<MT, NT>();
        load_a<MT>(a, pixel);
        multiply<MT, NT>();
        load_b<NT>(b + 2 * tile_bytes, b_next);
        multiply<MT, NT>();
        load_b<NT>(b, b_next);
        multiply<MT, NT>();
      }
      a += planes * 64;
      b += NT * planes * tile_bytes;
    }
  }
  ahead.at = next;
  _tile_stored(0, c, panel_columns * 4);
  if constexpr (NT == 2) _tile_stored(1, c + 16, panel_columns * 4);
  if constexpr (MT == 2) _tile_stored(2, c + 16 * panel_columns, panel_columns * 4);
  if constexpr (MT == 2 && NT == 2) _tile_stored(3, c + 16 * panel_columns + 16, panel_columns * 4);
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

// A row of C again, in fp32 from the sums of the planes; NaN stays where an operand is NaN.
template <int PLANES>
void repair_row(const Operands& o, int64_t r, int tiles, float* c) {
  for (int tile = 0; tile < tiles; ++tile) {
    Vec sum = {};
    const char* b = o.b + tile * PLANES * tile_bytes;
    for (int64_t t = 0; t < o.taps; ++t) {
      const char* a = o.a + o.tap_offsets[t] + r * o.pixel;
      for (int64_t s = 0; s < o.tap_steps; ++s, a += PLANES * 64, b += tiles * PLANES * tile_bytes) {
        for (int64_t k = 0; k < tile_depth; ++k) {
          float x = 0;
          __m512 y = _mm512_setzero_ps();
          for (int plane = PLANES - 1; plane >= 0; --plane) {
            x += number(a + plane * 64 + k * 2);
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
    }
    store(c + tile * 16, sum);
  }
}

SINTER_INLINE bool has_nan(const float* c, int64_t rows, int tiles) {
  __mmask16 found = 0;
  for (int64_t i = 0; i < rows; ++i, c += panel_columns) {
    for (int j = 0; j < tiles; ++j) {
      const __m512 v = _mm512_loadu_ps(c + j * 16);
      found = static_cast<__mmask16>(found | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
    }
  }
  return found != 0;
}

// ---- a call

// Adds what the sums start from and the bias, applies bounds.
SINTER_INLINE void finish_rows(const ContractArgs& p, const float* block, int64_t rows, int64_t n, int64_t cols,
                               float* to, int64_t stride) {
  const __m512 low = _mm512_set1_ps(p.low), high = _mm512_set1_ps(p.high);
  for (int64_t j = 0; j < cols; j += 16) {
    const __mmask16 part = first_lanes(cols - j);
    const __m512 bias = p.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(part, p.bias + n + j);
    for (int64_t r = 0; r < rows; ++r) {
      __m512 v = _mm512_add_ps(_mm512_loadu_ps(block + r * panel_columns + j), bias);
      if (p.accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(part, to + r * stride + j));
      v = _mm512_min_ps(high, _mm512_max_ps(low, v));
      _mm512_mask_storeu_ps(to + r * stride + j, part, v);
    }
  }
}

// `rows` rows of C one after the other, of all panels. The pixels of row r of `at` lie `lines.pitch` apart each
// `lines.width` rows: the pixels between are no rows of C.
struct Lines {
  int64_t width, pitch, first;  // first: position of row 0 in its line
};

template <int TERMS>
void run_rows(const ContractArgs& p, const Shape& s, Operands o, const Lines& lines, int64_t m, int64_t rows,
              int64_t n_begin, int64_t n_end, float* block) {
  constexpr int planes = planes_of<TERMS>;
  const auto pixel_of = [&](int64_t r) {
    const int64_t at = lines.first + r;
    return at / lines.width * lines.pitch + at % lines.width - lines.first;
  };
  for (int64_t n = n_begin; n < n_end; n += panel_columns) {
    const int64_t cols = least(panel_columns, n_end - n);
    const int tiles = cols > 16 ? 2 : 1;
    const int64_t tile_column = s.taps * s.tap_steps * planes * tile_bytes;
    o.b = reinterpret_cast<const char*>(p.b) + n / 16 * tile_column;
    // While this panel is multiplied, the next one comes nearer.
    const int64_t pairs = (pixel_of(rows - 1) + 32) / 32;
    const bool more = n + panel_columns < n_end;
    Ahead ahead = {o.b + tiles * tile_column, more ? (2 * planes * 16 + pairs - 1) / pairs : 0};
    for (int64_t r = 0; r < rows;) {
      // As many rows as fit into the block with the pixels between them.
      const int64_t start = pixel_of(r);
      int64_t count = least(rows - r, s.block_rows);
      while (pixel_of(r + count - 1) - start >= s.block_rows) --count;
      const int64_t pixels = pixel_of(r + count - 1) - start + 1;
      for (int64_t i = 0; i < pixels; i += 32) {
        float* c = block + i * panel_columns;
        const bool two = pixels - i > tile_rows;
        if (two && tiles == 2) {
          tiles_of<TERMS, 2, 2>(o, start + i, c, ahead);
        } else if (two) {
          tiles_of<TERMS, 2, 1>(o, start + i, c, ahead);
        } else if (tiles == 2) {
          tiles_of<TERMS, 1, 2>(o, start + i, c, ahead);
        } else {
          tiles_of<TERMS, 1, 1>(o, start + i, c, ahead);
        }
      }
      // The rows move together.
      int64_t i = 0;
      while (i < count) {
        const int64_t at = pixel_of(r + i) - start;
        const int64_t run = least(count - i, lines.width - (lines.first + r + i) % lines.width);
        float* from = block + at * panel_columns;
        if (TERMS > 1 && has_nan(from, run, tiles)) {
          for (int64_t j = 0; j < run; ++j) {
            if (has_nan(from + j * panel_columns, 1, tiles))
              repair_row<planes>(o, start + at + j, tiles, from + j * panel_columns);
          }
        }
        if (p.epilogue == nullptr) {
          finish_rows(p, from, run, n, cols, p.c + (m + r + i) * p.ldc + n, p.ldc);
        } else {
          finish_rows(p, from, run, n, cols, block + i * panel_columns, panel_columns);
        }
        i += run;
      }
      if (p.epilogue != nullptr) p.epilogue(p.user, m + r, count, n, cols, block, panel_columns);
      r += count;
    }
  }
}

template <int TERMS>
void chunk(const ContractArgs& p, int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, void* scratch) {
  constexpr int planes = planes_of<TERMS>;
  if (m_begin >= m_end || n_begin >= n_end) return;
  const Shape s = shape_of<planes>(p, m_end - m_begin);
  char* const own_planes = static_cast<char*>(scratch);
  float* block = reinterpret_cast<float*>(own_planes + s.planes_bytes);
  int64_t* offsets = reinterpret_cast<int64_t*>(own_planes + s.planes_bytes + s.block_bytes);
  _tile_loadconfig(&tile_config);
  Operands o = {};
  o.taps = s.taps;
  o.tap_steps = s.tap_steps;
  o.pixel = s.pixel;
  if (p.window == nullptr) {
    constexpr int64_t none = 0;
    o.tap_offsets = &none;
    o.a = own_planes;
    for (int64_t m = m_begin; m < m_end; m += s.m_block) {
      const int64_t count = least(s.m_block, m_end - m);
      for (int64_t r = 0; r < count; ++r) split_pixel<planes>(p.a + (m + r) * p.lda, s.k, own_planes + r * s.pixel);
      run_rows<TERMS>(p, s, o, {count, count, 0}, m, count, n_begin, n_end, block);
    }
  } else {
    const Window& w = *p.window;
    const Image image = image_of<planes>(p);
    int64_t t = 0;
    for (int64_t d = 0; d < w.kernel[0]; ++d)
      for (int64_t h = 0; h < w.kernel[1]; ++h)
        for (int64_t x = 0; x < w.kernel[2] / p.run; ++x) {
          const int64_t at[3] = {d * w.dilation[0], h * w.dilation[1], x * w.dilation[2]};
          const int64_t part =
              (at[0] % w.stride[0] * image.parts[1] + at[1] % w.stride[1]) * image.parts[2] + at[2] % w.stride[2];
          const int64_t pixel =
              (at[0] / w.stride[0] * image.extent[1] + at[1] / w.stride[1]) * image.extent[2] + at[2] / w.stride[2];
          offsets[t++] = part * image.part + pixel * image.pixel;
        }
    o.tap_offsets = offsets;
    const int64_t slice = w.out[1] * w.out[2];
    for (int64_t m = m_begin; m < m_end;) {
      const int64_t at = m % slice, number = m / slice;
      const int64_t count = least(slice - at, m_end - m);
      const int64_t y = at / w.out[2], x = at % w.out[2];
      o.a = p.planes + number / w.out[0] * image.image +
            ((number % w.out[0] * image.extent[1] + y) * image.extent[2] + x) * image.pixel;
      run_rows<TERMS>(p, s, o, {w.out[2], image.extent[2], x}, m, count, n_begin, n_end, block);
      m += count;
    }
  }
  _tile_release();
}

// ---- packing: [panel][tap][step][tile of 16 columns][plane][16 pairs of k][16 columns][2]

int panel_width(int64_t) { return panel_columns; }

void unpacked(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t k_stride, int64_t n_stride,
              int64_t n_begin, int64_t n_end, float* c, int64_t ldc) {
  contract_avx512.unpacked(m, k, a, lda, b, k_stride, n_stride, n_begin, n_end, c, ldc);
}

void transpose(const void* src, int64_t rows, int64_t cols, int64_t src_stride, void* dst, int64_t dst_stride) {
  contract_avx512.transpose(src, rows, cols, src_stride, dst, dst_stride);
}

template <int PLANES>
int64_t packed_size(int64_t taps, int64_t k, int64_t n, int, int64_t run) {
  return taps / run * up_to(k * run, tile_depth) * up_to(n, 16) * PLANES / 2;
}

template <int PLANES>
void pack_b(const PackArgs& p, int64_t n_begin, int64_t n_end, float* dst) {
  const int64_t k = p.k * p.run, taps = p.taps / p.run;
  const int64_t steps = taps * (up_to(k, tile_depth) / tile_depth);
  // Even numbers of a row of 32 are in the first vector's lanes, odd ones in the second's.
  const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i offsets = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(p.n_stride)));
  for (int64_t n = n_begin; n < n_end; n += 16) {
    const int64_t cols = least(16, p.n - n);
    if (cols <= 0) return;
    const int64_t panel = n / panel_columns * panel_columns;
    const int tiles = p.n - panel > 16 ? 2 : 1;
    char* to = reinterpret_cast<char*>(dst) + panel / 16 * steps * PLANES * tile_bytes +
               (n - panel) / 16 * PLANES * tile_bytes;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t first = 0; first < k; first += tile_depth, to += tiles * PLANES * tile_bytes)
        for (int64_t i = 0; i < tile_depth; i += 2) {
          alignas(64) float two[2][16] = {};
          for (int64_t odd = 0; odd < 2; ++odd) {
            const int64_t at = first + i + odd;
            if (at >= k) continue;
            const float* from =
                p.src + (tap * p.run + at / p.k) * p.tap_stride + at % p.k * p.k_stride + n * p.n_stride;
            if (p.n_stride == 1) {
              _mm512_store_ps(two[odd], _mm512_maskz_loadu_ps(first_lanes(cols), from));
            } else if (p.n_stride < (1 << 26)) {
              _mm512_store_ps(two[odd],
                              _mm512_mask_i32gather_ps(_mm512_setzero_ps(), first_lanes(cols), offsets, from, 4));
            } else {
              for (int64_t j = 0; j < cols; ++j) two[odd][j] = from[j * p.n_stride];
            }
          }
          __m512i planes[PLANES];
          split<PLANES>(_mm512_load_ps(two[0]), _mm512_load_ps(two[1]), planes);
          for (int plane = 0; plane < PLANES; ++plane)
            _mm512_storeu_si512(to + plane * tile_bytes + i / 2 * 64, _mm512_permutexvar_epi16(pairs, planes[plane]));
        }
  }
}

template <int TERMS>
constexpr ContractTable table_of() {
  constexpr int planes = planes_of<TERMS>;
  return {
      16,           panel_columns, planes,    panel_width,    packed_size<planes>, pack_b<planes>, scratch_size<planes>,
      chunk<TERMS>, unpacked,      transpose, &images<planes>};
}

}  // namespace

extern const ContractTable contract_amx_bf16 = table_of<1>();
extern const ContractTable contract_amx_bf16x3 = table_of<3>();
extern const ContractTable contract_amx_bf16x6 = table_of<6>();

}  // namespace sinter::cpu
