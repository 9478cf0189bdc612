// Recipes of random graphs: what is to be built, apart from the graph that is built of it.
//
// A recipe is a list of items (inputs, constants, calls in text form) that read the results of earlier ones. The same
// recipe becomes a module with numbers or with symbols for the extents of its inputs, and a smaller recipe when it is
// shrunk. Bodies of If and Loop are recipes whose first items are their parameters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/builder.h"
#include "tensor/tensor.h"

namespace random_graphs {

using namespace sinter;

struct Ref {
  int item = -1, output = 0;  // item < 0: an absent operand
  bool operator==(const Ref&) const = default;
};

struct Recipe {
  struct Item {
    enum class Kind { input, constant, node } kind = Kind::input;
    // Input of the main graph. Parameters of bodies take the types of what is passed.
    DType dtype = DType::f32;
    Dims dims;
    std::vector<bool> open;  // by axis: whether the extent may vary
    uint64_t salt = 0;       // of its data, so that they stay when other items leave
    // Constant.
    Tensor tensor;
    // Node: "Conv{pads=[1, 1, 1, 1]}".
    std::string call;
    std::vector<Ref> inputs;
    std::vector<Recipe> bodies;
    size_t outputs = 1;

    std::string_view op() const { return std::string_view(call).substr(0, call.find('{')); }
  };
  std::vector<Item> items;
  std::vector<Ref> results;
};

// What a test of this test breaks: the results of every node of one operator, in what is built and not in the
// evaluation by definition.
struct Fault {
  std::string op;      // empty: none
  bool crash = false;  // the process ends instead
};

Ids make_item(GraphBuilder& b, const Recipe::Item& item, const Ids& inputs, const Fault& fault);
// made: the values of each item, where wanted.
Module module_of(const Recipe& recipe, bool dynamic, const Fault& fault = {}, std::vector<Ids>* made = nullptr);

// Data for the inputs: multiples of 1/8 in [-2, 2], whole numbers in [-16, 16], strings.
Tensor input_data(const Recipe::Item& input, uint64_t seed);
std::vector<Box> data_for(const Recipe& recipe, uint64_t seed);

// Drops what no result needs, in bodies too; inputs and parameters of bodies stay when `keep_inputs`.
void prune(Recipe& recipe, bool keep_inputs);
// Nodes, those of bodies included.
size_t count_nodes(const Recipe& recipe);

}  // namespace random_graphs
