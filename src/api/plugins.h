// Plugins: tables of include/sinter/plugin.h as operators of the registry, from libraries or from this process.
//
// What a table says is tested when it is registered and copied; its functions are called from then on. Whatever they do
// with the sinter_call that they get, apart from writing beyond the memory it gives, ends in an Error at worst.
#pragma once

#include <memory>
#include <string>

#include "ops/custom.h"
#include "sinter/plugin.h"

namespace sinter {

// Throws Error; then nothing of the table is kept, nor the library, unless it has registered tables itself.
void register_plugin(const sinter_plugin* plugin);
void load_plugins(const std::string& path);

// One operator of a table; `plugin` is its name and version. Throws Error(Code::invalid_argument).
std::unique_ptr<const CustomOperator> plugin_operator(const sinter_plugin_op& op, std::string plugin);

}  // namespace sinter
