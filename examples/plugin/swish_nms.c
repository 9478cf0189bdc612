/* A plugin with two operators of the domain com.example:
 *
 *   Swish{beta}(x) -> y                           x / (1 + exp(-beta * x)), any shape
 *   Nms{iou, score}(boxes[N, 4], scores[N]) -> kept[K]  the best boxes, those that overlap them left out
 *
 * Compile with: cc -shared -fPIC -I include swish_nms.c -o swish_nms.so -lm
 */
#include <math.h>
#include <sinter/plugin.h>
#include <stdlib.h>
#include <string.h>

static int swish_infer(sinter_call* c) {
  if (c->inputs[0].dtype != SINTER_F32) return c->fail(c, "x must be f32");
  c->set_like(c, 0, SINTER_F32, 0);
  return 0;
}

static int swish_compute(sinter_call* c) {
  const float* x = c->inputs[0].data;
  float* y = c->outputs[0].data;
  const float beta = (float)c->real(c, "beta");
  const int64_t each = c->inputs[0].count / c->part_count + 1, first = c->part * each;
  for (int64_t i = first; i < first + each && i < c->inputs[0].count; ++i) y[i] = x[i] / (1 + expf(-beta * x[i]));
  return 0;
}

static int nms_infer(sinter_call* c) {
  if (c->inputs[0].dtype != SINTER_F32 || c->inputs[1].dtype != SINTER_F32) return c->fail(c, "inputs must be f32");
  const double iou = c->real(c, "iou");
  if (!(iou >= 0 && iou <= 1)) return c->fail(c, "iou is %g, it must be from 0 to 1", iou);
  c->require_rank(c, 0, 2, 2);
  c->require_rank(c, 1, 1, 1);
  const sinter_dim count = c->extent(c, 0, 0);
  c->require_equal(c, count, c->extent(c, 1, 0), "as many boxes as scores");
  c->require_equal(c, c->extent(c, 0, 1), c->number(c, 4), "boxes have 4 numbers");
  const sinter_dim kept = c->found(c, 0, 0, 0, count);
  c->set_output(c, 0, SINTER_I64, &kept, 1);
  return 0;
}

static float overlap(const float* a, const float* b) { /* corners x1, y1, x2, y2 */
  const float w = fminf(a[2], b[2]) - fmaxf(a[0], b[0]), h = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
  const float both = w > 0 && h > 0 ? w * h : 0;
  return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both);
}

static int nms_compute(sinter_call* c) {
  const float *boxes = c->inputs[0].data, *scores = c->inputs[1].data;
  const float iou = (float)c->real(c, "iou"), least = (float)c->real(c, "score");
  const int64_t count = c->inputs[1].count;
  int64_t kept = 0, *indices = calloc((size_t)count + 1, sizeof *indices);
  char* gone = calloc((size_t)count + 1, 1);
  for (int64_t best = 0; indices && gone && best >= 0;) {
    best = -1;
    for (int64_t i = 0; i < count; ++i)
      if (!gone[i] && scores[i] >= least && (best < 0 || scores[i] > scores[best])) best = i;
    if (best < 0) break;
    indices[kept++] = best;
    for (int64_t i = 0; i < count; ++i)
      if (i == best || overlap(boxes + 4 * best, boxes + 4 * i) > iou) gone[i] = 1;
  }
  int64_t* out = indices && gone ? c->make(c, 0, &kept, 1) : 0;
  if (out) memcpy(out, indices, (size_t)kept * sizeof *out);
  free(indices);
  free(gone);
  return out ? 0 : c->fail(c, "out of memory");
}

static const sinter_attribute swish_attributes[] = {{"beta", SINTER_REAL, "1"}};
static const sinter_attribute nms_attributes[] = {{"iou", SINTER_REAL, 0}, {"score", SINTER_REAL, "0"}};

static const sinter_plugin_op operators[] = {
    {"com.example", "Swish", 1, 1, 1, 1, 1, swish_attributes, 1, swish_infer, swish_compute, 0, 1},
    {"com.example", "Nms", 1, 2, 2, 1, 1, nms_attributes, 2, nms_infer, nms_compute, 0, 0}};

static const sinter_plugin plugin = {SINTER_PLUGIN_ABI, "example", "1.0", operators, 2};

const sinter_plugin* sinter_plugin_entry(void) { return &plugin; }
