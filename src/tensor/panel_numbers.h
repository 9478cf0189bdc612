// PanelNumbers: what the numbers of f32 panels are. By itself, for code of every instruction set.
#pragma once

#include <cstdint>

namespace sinter {

// plain: as they are, of whatever dtype. bf16, f16: in the same places, rounded to 16 bits. planes1 to planes3: in
// tiles, each split into so many bf16, as tensor/layout.h says. f16_plane: in the same tiles, rounded to f16.
enum class PanelNumbers : uint8_t { plain, bf16, f16, planes1, planes2, planes3, f16_plane };

}  // namespace sinter
