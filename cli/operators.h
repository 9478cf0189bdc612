// The page of operators (docs/operators.md): what the tables of this build say, and what test data shows of it.
#pragma once

#include <string>
#include <vector>

namespace sinter::cli {

struct PageSources {
  std::string tests;                // folder with *.case and *.problems below it; empty: none
  std::vector<std::string> models;  // folders of cases of ONNX's backend test suite
};

// Markdown; the same text for the same build and data, on every machine.
std::string operators_page(const PageSources& sources);

}  // namespace sinter::cli
