// Maker: draws the nodes of a random graph, with operands that exist or are made to fit.
//
// Every node is evaluated as it is drawn, so extents, elements and magnitudes of all values are known: operands are
// chosen by what they hold, and nodes that the definition refuses, or that give NaN, infinity or large numbers, are not
// kept. Floats carry a grain: the number of binary places in which they are exact for any data, or -1 where rounding
// may have happened; what jumps (comparisons, rounding, selection) takes exact operands only. The same seed gives the
// same recipe. Families of operators are tables of functions, one file each.
#pragma once

#include <optional>
#include <random>
#include <span>

#include "random_graphs/recipe.h"

namespace random_graphs {

class Maker;

// Adds nodes and says whether it did; `weight` is how often it is asked.
struct Family {
  const char* name;
  int weight;
  bool (*make)(Maker&);
};
std::span<const Family> pointwise_families();
std::span<const Family> movement_families();
std::span<const Family> shape_families();
std::span<const Family> indexing_families();
std::span<const Family> selection_families();
std::span<const Family> contraction_families();
std::span<const Family> spatial_families();
std::span<const Family> composite_families();
std::span<const Family> box_families();
std::span<const Family> control_families();

// A graph of 5 to 40 nodes.
Recipe random_recipe(uint64_t seed);

class Maker {
 public:
  using Item = Recipe::Item;
  struct Known {
    Ref ref;
    ValueId id;  // in the graph that is typed along the way
    Box box;
    int grain;
  };

  // data_seed: of the inputs' data that nodes are evaluated with; depth: 0, or bodies around the graph.
  Maker(std::mt19937_64& random, Module& module, Graph& graph, int depth, uint64_t data_seed = 0)
      : builder(module, graph), random_(random), depth_(depth), data_seed_(data_seed) {}

  void grow(int nodes);

  // ---- chance ----
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool once_in(int n) { return below(n) == 0; }
  int between(int low, int high) { return low + below(high - low + 1); }
  template <typename T, size_t N>
  T one_of(const T (&list)[N]) {
    return list[static_cast<size_t>(below(static_cast<int>(N)))];
  }
  int64_t extent();
  DType float_dtype();
  DType integer_dtype();
  std::vector<int64_t> permutation(int n);
  std::mt19937_64& random() { return random_; }

  // ---- what is known ----
  const Known& known(int v) const { return known_[static_cast<size_t>(v)]; }
  int count() const { return static_cast<int>(known_.size()); }
  bool is_tensor(int v) const { return known(v).box.kind == Box::Kind::tensor && type(v).is_tensor(); }
  const Type& type(int v) const { return builder.type(known(v).id); }
  const Tensor& tensor(int v) const { return known(v).box.tensor; }
  DType dtype(int v) const { return tensor(v).dtype(); }
  const Dims& dims(int v) const { return tensor(v).dims(); }
  int rank(int v) const { return static_cast<int>(dims(v).size()); }
  int64_t size(int v) const { return tensor(v).count(); }
  int64_t extent_of(int v, int axis) const { return dims(v)[static_cast<size_t>(axis)]; }
  bool exact(int v) const { return known(v).grain >= 0; }
  bool bounded(int v, double bound) const;  // no element is larger
  int grain(int v) const { return known(v).grain; }
  int depth() const { return depth_; }

  // A value that fits, late ones more often, or -1.
  template <typename Fits>
  int pick(Fits fits) {
    for (int tries = 0; tries < 24; ++tries) {
      const int v = below(2) ? below(count()) : count() - 1 - below(std::min(count(), 6));
      if (is_tensor(v) && fits(v)) return v;
    }
    return -1;
  }
  int pick(DType wanted, int low_rank = 0, int high_rank = 6) {
    return pick([&](int v) { return dtype(v) == wanted && rank(v) >= low_rank && rank(v) <= high_rank; });
  }
  int pick_any(int low_rank = 0, int high_rank = 6) {
    return pick([&](int v) { return rank(v) >= low_rank && rank(v) <= high_rank; });
  }
  // f32 mostly, other floats that operators compute in.
  int pick_float(int low_rank = 0, int high_rank = 6);
  int pick_exact(int low_rank = 0, int high_rank = 6);

  // ---- values that are made to fit ----
  // Extents come by value: those of a known value move when values are added.
  int constant(Tensor tensor);
  int number(DType dtype, double value) { return constant(Tensor::scalar(dtype, value)); }
  int random_constant(DType dtype, Dims dims, double low = -1, double high = 1);  // floats in steps of 1/16
  int input(DType dtype, Dims dims);                                              // a constant inside of bodies
  // A value of exactly this type: one there is, one made of another, a constant, an input.
  int operand(DType dtype, Dims dims);
  // The same with some extents 1 or left out at the front.
  int broadcastable(DType dtype, Dims dims);
  int fit(int v, Dims dims);  // v reshaped, expanded, sliced, padded or tiled
  int cast(int v, DType to);
  // Whole numbers as an i64 list: a constant, or computed from extents where these have such numbers.
  int list(std::vector<int64_t> numbers);
  int fixed_list(const std::vector<int64_t>& numbers) { return constant(Tensor::vector_i64(numbers)); }
  // An i64 scalar in [low, high] that depends on data.
  int data_number(int64_t low, int64_t high);
  // Indices in [0, extent) of these extents: constant, or of data.
  int indices(int64_t extent, Dims dims, bool negative);

  // ---- nodes ----
  // Number of the first result, or -1 when it was not kept. grain: of float results.
  int call(std::string text, std::vector<int> inputs, int grain = -1, size_t outputs = 1,
           std::vector<Recipe> bodies = {});
  // What a function builds of these operands, as nodes of the recipe; number of the last value, or -1.
  template <typename Wire>
  int wired(const std::vector<int>& inputs, Wire wire) {
    Module module;
    GraphBuilder b(module, *module.main);
    Ids ids;
    for (int v : inputs) ids.push_back(b.input(Type::of(tensor(v))));
    const ValueId result = wire(b, ids);
    return take_over(*module.main, inputs, result);
  }

  // ---- bodies ----
  // Parameters first; the caller sets results.
  int parameter(Type type, Box box, int grain);
  Recipe take() { return std::move(recipe_); }
  Recipe& recipe() { return recipe_; }
  Ref ref(int v) const { return known(v).ref; }
  Module& module() { return builder.module; }

  static bool small(const Dims& dims);
  static std::optional<Dims> broadcast(const Dims& a, const Dims& b);
  static std::string text_of(std::span<const int64_t> list);

 private:
  int take_over(const Graph& graph, const std::vector<int>& inputs, ValueId result);
  int append(Item item, Ids ids, std::vector<Box> boxes, std::vector<int> grains);
  int settled_grain(const Tensor& tensor, int grain) const;

  GraphBuilder builder;
  std::mt19937_64& random_;
  int depth_;
  uint64_t data_seed_;
  int made_ = 0, inputs_ = 0;
  Recipe recipe_;
  std::vector<Known> known_;
};

}  // namespace random_graphs
