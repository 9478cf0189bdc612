// A bound attention: how everything lies and how it is cut; made by attention.cpp, run by attention_run.cpp.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/cpu/isa/attention.h"
#include "backend/cpu/isa/contract.h"
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/stages.h"
#include "backend/cpu/tile_executor.h"

namespace sinter::cpu::attention {

constexpr size_t max_buffers = 64;
constexpr size_t max_bands = 4;
constexpr int64_t turn_rows = 32;  // rows of y that tiles make at a time

// What comes between the products, as a program.
struct Between {
  Problem problem;
  std::vector<uint16_t> sources;  // values behind the problem's operands
  StageProgram stages;
  std::shared_ptr<const TileExecutor> executor;  // for the spreads in stages.program
  bool sums = false;                             // rows are to be divided by result 1
};

struct Prepared {
  const ContractTable* table;
  const AttentionTable* tiles;  // null: the level has none
  AttentionForm form;
  Between between, open;  // whole, and as rows on tiles take it
  uint8_t level = 0;
};

// How an operand or the result lies over batch axes, rows and columns.
struct Part {
  uint16_t argument = 0;  // of the launch
  int64_t width = 4;      // bytes of an element; factors of two are bf16
  int64_t offset = 0;     // elements
  Dims batch;             // strides
  Dims inner, outer;      // of batch axes of two strides, see views.h
  int64_t row = 0, col = 0;
  int band = -1;  // of a program operand: the band that it is instead
};

// Bounds of a mask; absent ones bound nothing.
struct Band {
  std::optional<Part> first, last;
  bool one_row = false;  // that all rows read
};

// A factor that becomes panels: k along the sum, n along the columns.
struct Factor {
  Part part;
  PackArgs pack;
  Dims index;    // by batch axis: strides of the matrix number
  Dims extents;  // of the batch axes, 1 where the matrix is shared
  int64_t matrices = 1;
  int64_t floats = 0;             // of a packed matrix
  int64_t panels = 1, packs = 1;  // panels of a chunk that packs, such chunks of a matrix
};

struct Plan {
  const Prepared* prepared;
  const Between* between;
  std::shared_ptr<const TileExecutor> executor;
  Dims batch;
  int64_t heads = 1, m = 0, n = 0, depth = 0, d = 0;
  int64_t ld = 0;                // floats from row to row of scores
  int64_t rows = 0, blocks = 0;  // of a block, of a head
  bool local = false;            // panels lie in the scratch
  bool unpacked = false;
  Part q, y;
  Factor k, v;
  std::vector<Part> parts;  // program operands
  std::vector<Band> bands;
  bool hides = false;  // keys that the form's band hides from a block may be left out
  Part fill;
  int64_t chunks = 0;
  // Bytes into the scratch; panels of v into the workspace.
  int64_t v_offset = 0, scores_offset = 0, q_offset = 0, y_offset = 0, tile_offset = 0, panels_offset = 0;
  int64_t bands_offset = 0, band_size = 0, largest_offset = 0;
  int64_t finite_offset = 0;  // into the workspace: by chunk that packs v, whether its numbers are finite
  bool copies_q = false, copies_y = false;
  // On tiles. Weights of one plane come from the program as bf16, rows weights_ld apart; more planes are split from
  // the scores, turn_rows at a time.
  bool tiled = false;
  int64_t weights_ld = 0, y_ld = 0;  // elements
  int64_t planes_offset = 0, weights_offset = 0, sums_offset = 0, copy_offset = 0;
};

Status run_attention(const Launch& launch);

}  // namespace sinter::cpu::attention
