/* Builds an engine from a model, saves it, loads it again and runs it: the whole C interface in one page.
 *
 *   first_run MODEL.onnx ENGINE
 */
#include <sinter/sinter.h>
#include <stdio.h>
#include <stdlib.h>

static void check(sinter_code code) {
  if (code == SINTER_OK) return;
  fprintf(stderr, "%s: %s\n", sinter_code_name(code), sinter_error_message());
  exit(1);
}

static void progress(void* user, const char* stage, double fraction) {
  (void)user;
  printf("%3.0f %%  %s\n", 100 * fraction, stage);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL.onnx ENGINE\n", argv[0]);
    return 2;
  }
  sinter_build_options options = SINTER_BUILD_OPTIONS_INIT;
  options.progress = progress;
  sinter_engine* engine = NULL;
  check(sinter_build_file(argv[1], &options, &engine));
  check(sinter_engine_save(engine, argv[2]));
  sinter_engine_destroy(engine);

  check(sinter_engine_load(argv[2], 0, &engine));
  sinter_context* context = NULL;
  check(sinter_context_create(engine, 0, &context));

  /* Zeros for every input; extents that vary are 1 here. */
  const size_t count_of_inputs = sinter_engine_input_count(engine);
  void** inputs = calloc(count_of_inputs + 1, sizeof *inputs);
  if (!inputs) return 1;
  for (size_t i = 0; i < count_of_inputs; ++i) {
    sinter_tensor_info info = {.size = sizeof info};
    check(sinter_engine_input(engine, i, &info));
    int64_t dims[16], count = 1;
    for (int k = 0; k < info.rank; ++k) {
      dims[k] = info.dims[k] < 0 ? 1 : info.dims[k];
      count *= dims[k];
    }
    const size_t bytes = (size_t)count * (size_t)sinter_dtype_bits(info.dtype) / 8;
    inputs[i] = calloc(bytes ? bytes : 1, 1);
    if (!inputs[i]) return 1;
    check(sinter_context_set_input(context, i, info.dtype, dims, (size_t)info.rank, inputs[i], bytes));
  }
  check(sinter_context_run(context));
  for (size_t i = 0; i < sinter_engine_output_count(engine); ++i) {
    sinter_dtype dtype;
    int64_t dims[16];
    int rank = 0;
    const void* data = NULL;
    size_t bytes = 0;
    check(sinter_context_get_output(context, i, &dtype, dims, &rank, &data, &bytes));
    printf("output %zu: %s[", i, sinter_dtype_name(dtype));
    for (int k = 0; k < rank; ++k) printf(k ? ", %lld" : "%lld", (long long)dims[k]);
    printf("], %zu bytes\n", bytes);
  }
  sinter_context_destroy(context);
  sinter_engine_destroy(engine);
  for (size_t i = 0; i < count_of_inputs; ++i) free(inputs[i]);
  free(inputs);
  return 0;
}
