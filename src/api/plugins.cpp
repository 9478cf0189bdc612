#include "api/plugins.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <algorithm>

#include "base/scanner.h"
#include "frontends/onnx/import.h"

namespace sinter {
namespace {

constexpr size_t most_operators = 1 << 16;

[[noreturn]] void refuse(const std::string& why) { throw Error(Code::invalid_argument, why); }

void need_text(const char* text, const char* what) {
  if (!text || !*text) refuse(fmt::format("a plugin's {} is missing", what));
}

}  // namespace

void register_plugin(const sinter_plugin* plugin) {
  if (!plugin) refuse("the plugin is null");
  if (plugin->abi != SINTER_PLUGIN_ABI)
    throw Error(Code::invalid_argument,
                fmt::format("the plugin was compiled for plugin interface {}, this library has {}", plugin->abi,
                            SINTER_PLUGIN_ABI))
        .with_hint("compile it again with this version's sinter/plugin.h");
  need_text(plugin->name, "name");
  need_text(plugin->version, "version");
  if (!plugin->ops || plugin->op_count == 0)
    refuse(fmt::format("plugin '{}' has no operators", printable(plugin->name)));
  if (plugin->op_count > most_operators)
    refuse(fmt::format("plugin '{}' has {} operators", printable(plugin->name), plugin->op_count));
  std::vector<std::unique_ptr<const CustomOperator>> operators;
  for (size_t i = 0; i < plugin->op_count; ++i) {
    operators.push_back(plugin_operator(plugin->ops[i], fmt::format("{} {}", plugin->name, plugin->version)));
    const CustomOperator& op = *operators.back();
    const auto entries = onnx::all_entries();
    if (op.domain.empty() && std::any_of(entries.begin(), entries.end(),
                                         [&](const onnx::Entry& e) { return e.domain.empty() && e.name == op.name; }))
      throw Error(Code::invalid_argument,
                  fmt::format("plugin '{}': {} is an operator of ONNX", printable(plugin->name), printable(op.name)))
          .with_hint("give it a domain of its own");
  }
  register_custom(std::move(operators));
}

void load_plugins(const std::string& path) {
  // A name without a folder would be looked for where the system has its libraries.
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  const size_t operators = all_custom().size();
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = ::dlerror();
    throw Error(Code::io, fmt::format("cannot load plugins: {}", why ? why : file.c_str()));
  }
  try {
    void* const symbol = ::dlsym(library, SINTER_PLUGIN_ENTRY);
    if (!symbol) refuse(fmt::format("it is a library without plugins: it exports no {}()", SINTER_PLUGIN_ENTRY));
    const auto entry = reinterpret_cast<const sinter_plugin* (*)()>(symbol);
    const sinter_plugin* plugin = nullptr;
    try {
      plugin = entry();
    } catch (...) {
      refuse(fmt::format("{}() threw an exception", SINTER_PLUGIN_ENTRY));
    }
    register_plugin(plugin);  // the library stays: the registry has its functions
  } catch (Error& error) {
    // A library may have registered tables itself when it was loaded or asked: what they point to has to stay.
    if (all_custom().size() == operators) ::dlclose(library);
    error.add_context(fmt::format("loading plugins from '{}'", printable(path)));
    throw;
  }
}

}  // namespace sinter
