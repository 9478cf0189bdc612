// AMX for machines without it, so that the rows that multiply on tiles are tested there too.
//
// Such a machine answers an instruction of AMX with SIGILL. A handler does what the instruction says, to tiles that
// each thread has of its own, makes it a breakpoint, which is faster the next time, and goes on behind it. It knows the
// instructions that src/backend/cpu/isa uses. Those that hardware would refuse (tiles without a shape, operands that do
// not fit) end the process: the handler says which and why, and hands the signal on. It says nothing about speed, and
// its memory is that of the test: what a tile reads beyond an operand is found as it is for any other code.
#pragma once

#include <cstdint>

#include "backend/kernel.h"

namespace sinter::testing {

// This machine, with one thread and with level amx: its own, or emulated from now on, in all threads, where the vectors
// are those that the code of this level uses beside tiles. Elsewhere this machine as it is. SIGILL for anything else
// goes to the handler that is there at the first call; whoever installs another one later takes the tiles away.
DeviceSpec machine_with_tiles();

// How often the emulator was entered so far: what it costs, two to seven microseconds each, alike in every run.
uint64_t tile_signals();

}  // namespace sinter::testing
