// Lookup, ClassProbabilities.

#include "ops/labels.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <unordered_map>

#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const LookupAttrs*) {
  static const Fields f = describe<LookupAttrs>({field<&LookupAttrs::required>("required")});
  return f;
}

const Fields& fields_of(const ClassProbabilitiesAttrs*) {
  static const Fields f = describe<ClassProbabilitiesAttrs>({field<&ClassProbabilitiesAttrs::classes>("classes")});
  return f;
}

namespace {

// ---- Lookup ----

void infer_lookup(InferContext& c) {
  const DType values = c.dtype(2);
  c.set(0, values);
  if (c.dtype(0) != c.dtype(1))
    c.fail(fmt::format("the operand is {}, the keys are {}", dtype_name(c.dtype(0)), dtype_name(c.dtype(1))));
  if (is_complex(c.dtype(0))) c.fail("complex keys");
  for (const size_t i : {1, 2})
    if (c.rank(i) != 1) c.fail(fmt::format("operand {} has rank {}, it must be 1", i, c.rank(i)));
  c.require_equal(c.shape(1)[0], c.shape(2)[0], "number of keys and values");
  if (c.dtype(3) != values)
    c.fail(fmt::format("the default is {}, the values are {}", dtype_name(c.dtype(3)), dtype_name(values)));
  c.require_equal(element_count(c.shape(3)), 1, "number of defaults");
  c.set(0, values, c.shape(0));
}

int64_t number_key(const Tensor& x, int64_t i) {
  if (!is_float(x.dtype())) return x.get_integer(i);
  const double v = x.get_real(i);
  if (std::isnan(v)) return std::bit_cast<int64_t>(std::numeric_limits<double>::quiet_NaN());
  return std::bit_cast<int64_t>(v == 0 ? 0.0 : v);
}

template <typename Key, typename Get>
void look_up(EvalContext& c, const Get& key) {
  const Tensor &x = c.in(0), &keys = c.in(1), &values = c.in(2), &otherwise = c.in(3);
  if (keys.count() != values.count() || otherwise.count() != 1) c.fail("keys, values and default do not fit together");
  std::unordered_map<Key, int64_t> places;
  for (int64_t i = 0; i < keys.count(); ++i) places.try_emplace(key(keys, i), i);
  const bool required = c.attrs<LookupAttrs>().required;
  Tensor& out = c.out(0);
  for (int64_t i = 0; i < out.count(); ++i) {
    const auto found = places.find(key(x, i));
    if (found != places.end()) {
      copy_element(out, i, values, found->second);
    } else {
      if (required) c.fail(fmt::format("element {} is none of the {} that are known", i, keys.count()));
      copy_element(out, i, otherwise, 0);
    }
  }
}

void eval_lookup(EvalContext& c) {
  if (c.in(0).dtype() == DType::string)
    look_up<std::string>(c, [](const Tensor& t, int64_t i) { return t.strings()[static_cast<size_t>(i)]; });
  else
    look_up<int64_t>(c, number_key);
}

// ---- ClassProbabilities ----

constexpr int64_t max_classes = 4096;

void infer_probabilities(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, floats are needed", dtype_name(dtype)));
  const int64_t k = c.attrs<ClassProbabilitiesAttrs>().classes;
  if (k < 2 || k > max_classes) c.fail(fmt::format("{} classes, 2 to {} can be told apart", k, max_classes));
  if (c.rank(0) != 2) c.fail(fmt::format("the operand has rank {}, it must be 2", c.rank(0)));
  c.require_equal(c.shape(0)[1], k * (k - 1) / 2, "pairs of classes");
  c.set(0, dtype, {c.shape(0)[0], Dim(k)});
}

void eval_probabilities(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& out = c.out(0);
  const auto k = static_cast<size_t>(c.attrs<ClassProbabilitiesAttrs>().classes);
  const int64_t pairs = static_cast<int64_t>(k * (k - 1) / 2), rows = x.dims()[0];
  if (x.dims()[1] != pairs) c.fail(fmt::format("{} pairs of {} classes", x.dims()[1], k));
  if (rows == 0) return;
  std::vector<double> r(k * k), q(k * k), p(k), qp(k);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t at = row * pairs;
    for (size_t i = 0; i < k; ++i)
      for (size_t j = i + 1; j < k; ++j) {
        r[i * k + j] = x.get_real(at++);
        r[j * k + i] = 1 - r[i * k + j];
      }
    for (size_t i = 0; i < k; ++i) {
      double sum = 0;
      for (size_t j = 0; j < k; ++j) {
        if (j == i) continue;
        sum += r[j * k + i] * r[j * k + i];
        q[i * k + j] = -r[j * k + i] * r[i * k + j];
      }
      q[i * k + i] = sum;
      p[i] = 1 / static_cast<double>(k);
    }
    const size_t rounds = std::max<size_t>(100, k);
    for (size_t round = 0; round < rounds; ++round) {
      double pqp = 0, worst = 0;
      for (size_t i = 0; i < k; ++i) {
        qp[i] = 0;
        for (size_t j = 0; j < k; ++j) qp[i] += q[i * k + j] * p[j];
        pqp += p[i] * qp[i];
      }
      if (!std::isfinite(pqp)) {
        std::fill(p.begin(), p.end(), std::numeric_limits<double>::quiet_NaN());
        break;
      }
      for (size_t i = 0; i < k; ++i) worst = std::max(worst, std::abs(qp[i] - pqp));
      if (!(worst >= 0.005 / static_cast<double>(k))) break;
      for (size_t i = 0; i < k; ++i) {
        const double step = (pqp - qp[i]) / q[i * k + i], scale = 1 + step;
        p[i] += step;
        pqp = (pqp + step * (step * q[i * k + i] + 2 * qp[i])) / scale / scale;
        for (size_t j = 0; j < k; ++j) {
          qp[j] = (qp[j] + step * q[i * k + j]) / scale;
          p[j] /= scale;
        }
      }
    }
    for (size_t i = 0; i < k; ++i) out.set_real(row * static_cast<int64_t>(k) + static_cast<int64_t>(i), p[i]);
  }
}

constexpr Op table[] = {
    {.name = "Lookup", .fields = fields<LookupAttrs>, .inputs = {4, 4}, .infer = infer_lookup, .eval = eval_lookup},
    {.name = "ClassProbabilities",
     .fields = fields<ClassProbabilitiesAttrs>,
     .infer = infer_probabilities,
     .eval = eval_probabilities},
};

}  // namespace

std::span<const Op> label_ops() { return table; }

}  // namespace sinter
