// Tile programs of the gates of recurrent networks. Operands and results are f32 over [sequences, state], peepholes one
// row of the state.
#pragma once

#include <span>

#include "backend/tile/program.h"
#include "ops/recurrent.h"

namespace sinter::cpu {

struct GateActivations {
  std::span<const ActivationText> activations;  // of one direction
  double clip = 0;                              // of what goes into gates; 0: none
};

// (i, o, f, c~, c, peepholes of i, o, f if there are any) → (c, h)
TileProgram lstm_program(const GateActivations& gates, bool coupled, bool peepholes);
// Reset after the product: (zx, zh, rx, rh, nx, nh, h) → h
TileProgram gru_program(const GateActivations& gates);
// Reset before it, first half: (zx, zh, rx, rh, h) → (z, r * h)
TileProgram gru_reset_program(const GateActivations& gates);
// Second half: (z, nx, nh, h) → h
TileProgram gru_update_program(const GateActivations& gates);
// gate → h
TileProgram rnn_program(const GateActivations& gates);

}  // namespace sinter::cpu
