// The attributes that operators have, over all versions: what a node gives beyond them is misspelt or of another
// operator, and would change nothing without a word.
//
// tests/docs/attributes.py compares the list with the schemas and writes it.

#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>

#include "base/scanner.h"
#include "frontends/onnx/importer.h"
#include "frontends/onnx/wire.h"

namespace sinter::onnx {
namespace {

// One operator a line; those that no schema describes any more come first.
constexpr std::string_view list = R"(
ConstantFill: dtype extra_shape input_as_shape shape value
# schemas
Abs: consumed_inputs
Acos:
Acosh:
Add: axis broadcast consumed_inputs
Affine: alpha beta
AffineGrid: align_corners
And: axis broadcast
ArgMax: axis keepdims select_last_index
ArgMin: axis keepdims select_last_index
Asin:
Asinh:
Atan:
Atanh:
Attention: is_causal kv_num_heads left_window_size q_num_heads qk_matmul_output_mode right_window_size scale softcap softmax_precision
AveragePool: auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides
BatchNormalization: consumed_inputs epsilon is_test momentum spatial training_mode
Bernoulli: dtype seed
BitCast: to
BitShift: direction
BitwiseAnd:
BitwiseNot:
BitwiseOr:
BitwiseXor:
BlackmanWindow: output_datatype periodic
Cast: round_mode saturate to
CastLike: round_mode saturate
CausalConvWithState: activation
Ceil: consumed_inputs
Celu: alpha
CenterCropPad: axes
Clip: consumed_inputs max min
Col2Im: dilations pads strides
Compress: axis
Concat: axis
ConcatFromSequence: axis new_axis
Constant: sparse_value value value_float value_floats value_int value_ints value_string value_strings
ConstantOfShape: value
Conv: auto_pad dilations group kernel_shape pads strides
ConvInteger: auto_pad dilations group kernel_shape pads strides
ConvTranspose: auto_pad dilations group kernel_shape output_padding output_shape pads strides
Cos:
Cosh:
Crop: border scale
CumProd: exclusive reverse
CumSum: exclusive reverse
DFT: axis inverse onesided
DeformConv: dilations group kernel_shape offset_group pads strides
DepthToSpace: blocksize mode
DequantizeLinear: axis block_size output_dtype
Det:
DisentangledAttention_TRT: factor span
Div: axis broadcast consumed_inputs
Dropout: consumed_inputs is_test ratio seed
DynamicQuantizeLinear:
DynamicSlice:
EfficientNMS_TRT: background_class box_coding iou_threshold max_output_boxes plugin_version score_activation score_threshold
Einsum: equation
Elu: alpha consumed_inputs
Equal: axis broadcast
Erf:
Exp: consumed_inputs
Expand:
EyeLike: dtype k
Flatten: axis
Floor: consumed_inputs
GRU: activation_alpha activation_beta activations clip direction hidden_size layout linear_before_reset output_sequence
GRUUnit: drop_states
Gather: axis
GatherElements: axis
GatherND: batch_dims
Gelu: approximate
Gemm: alpha beta broadcast transA transB
GivenTensorFill: extra_shape input_as_shape shape values
GlobalAveragePool:
GlobalLpPool: p
GlobalMaxPool:
Greater: axis broadcast
GreaterOrEqual:
GridSample: align_corners mode padding_mode
GroupNormalization: epsilon num_groups stash_type
HammingWindow: output_datatype periodic
HannWindow: output_datatype periodic
HardSigmoid: alpha beta consumed_inputs
HardSwish:
Hardmax: axis
Identity:
If: else_branch then_branch
ImageDecoder: pixel_format
ImageScaler: bias scale
InstanceNormalization: consumed_inputs epsilon
IsInf: detect_negative detect_positive
IsNaN:
LRN: alpha beta bias size
LSTM: activation_alpha activation_beta activations clip direction hidden_size input_forget layout output_sequence
LayerNormalization: axis epsilon stash_type
LeakyRelu: alpha consumed_inputs
Less: axis broadcast
LessOrEqual:
LinearAttention: chunk_size kv_num_heads q_num_heads scale update_rule
Log: consumed_inputs
LogSoftmax: axis
Loop: body
LpNormalization: axis p
LpPool: auto_pad ceil_mode dilations kernel_shape p pads strides
MatMul:
MatMulInteger:
Max: consumed_inputs
MaxPool: auto_pad ceil_mode dilations kernel_shape pads storage_order strides
MaxRoiPool: pooled_shape spatial_scale
MaxUnpool: kernel_shape pads strides
Mean: consumed_inputs
MeanVarianceNormalization: across_channels axes normalize_variance
MelWeightMatrix: output_datatype
MemcpyFromHost:
MemcpyToHost:
Min: consumed_inputs
Mish:
Mod: fmod
Mul: axis broadcast consumed_inputs
MultilevelCropAndResize_TRT: image_size plugin_version pooled_size
Multinomial: dtype sample_size seed
Neg: consumed_inputs
NegativeLogLikelihoodLoss: ignore_index reduction
NonMaxSuppression: center_point_box
NonZero:
Not:
OneHot: axis
Optional: type
OptionalGetElement:
OptionalHasElement:
Or: axis broadcast
PRelu: consumed_inputs
Pad: mode paddings pads value
ParametricSoftplus: alpha beta
Pow: axis broadcast
PyramidROIAlign_TRT: plugin_version pooled_size
QLinearConv: auto_pad dilations group kernel_shape pads strides
QLinearMatMul:
QuantizeLinear: axis block_size output_dtype precision saturate
RMSNormalization: axis epsilon stash_type
RNN: activation_alpha activation_beta activations clip direction hidden_size layout output_sequence
RandomNormal: dtype mean scale seed shape
RandomNormalLike: dtype mean scale seed
RandomUniform: dtype high low seed shape
RandomUniformLike: dtype high low seed
Range: stash_type
Reciprocal: consumed_inputs
ReduceL1: axes keepdims noop_with_empty_axes
ReduceL2: axes keepdims noop_with_empty_axes
ReduceLogSum: axes keepdims noop_with_empty_axes
ReduceLogSumExp: axes keepdims noop_with_empty_axes
ReduceMax: axes keepdims noop_with_empty_axes
ReduceMean: axes keepdims noop_with_empty_axes
ReduceMin: axes keepdims noop_with_empty_axes
ReduceProd: axes keepdims noop_with_empty_axes
ReduceSum: axes keepdims noop_with_empty_axes
ReduceSumSquare: axes keepdims noop_with_empty_axes
RegexFullMatch: pattern
Relu: consumed_inputs
Reshape: allowzero consumed_inputs shape
Resize: antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode
ReverseSequence: batch_axis time_axis
RoiAlign: coordinate_transformation_mode mode output_height output_width sampling_ratio spatial_scale
RotaryEmbedding: interleaved num_heads rotary_embedding_dim
Round:
STFT: onesided
Scale: scale
ScaledTanh: alpha beta
Scan: body directions num_scan_inputs scan_input_axes scan_input_directions scan_output_axes scan_output_directions
Scatter: axis
ScatterElements: axis reduction
ScatterND: reduction
Selu: alpha consumed_inputs gamma
SequenceAt:
SequenceConstruct:
SequenceEmpty: dtype
SequenceErase:
SequenceInsert:
SequenceLength:
SequenceMap: body
Shape: end start
Shrink: bias lambd
Sigmoid: consumed_inputs
Sign:
SimplifiedLayerNormalization: axis epsilon stash_type
Sin:
Sinh:
Size:
Slice: axes ends starts
Softmax: axis
SoftmaxCrossEntropyLoss: ignore_index reduction
Softplus:
Softsign:
SpaceToDepth: blocksize mode
Split: axis num_outputs split
SplitToSequence: axis keepdims
Sqrt: consumed_inputs
Squeeze: axes
StringConcat:
StringNormalizer: case_change_action is_case_sensitive locale stopwords
StringSplit: delimiter maxsplit
Sub: axis broadcast consumed_inputs
Sum: consumed_inputs
SwiGLU: alpha
Swish: alpha
Tan:
Tanh: consumed_inputs
TensorScatter: axis mode
TfIdfVectorizer: max_gram_length max_skip_count min_gram_length mode ngram_counts ngram_indexes pool_int64s pool_strings weights
ThresholdedRelu: alpha
Tile:
TopK: axis k largest sorted
Transpose: perm
Trilu: upper
Unique: axis sorted
Unsqueeze: axes
Upsample: height_scale mode scales width_scale
Where:
Xor: axis broadcast
ai.onnx.ml.ArrayFeatureExtractor:
ai.onnx.ml.Binarizer: threshold
ai.onnx.ml.CastMap: cast_to map_form max_map
ai.onnx.ml.CategoryMapper: cats_int64s cats_strings default_int64 default_string
ai.onnx.ml.DictVectorizer: int64_vocabulary string_vocabulary
ai.onnx.ml.FeatureVectorizer: inputdimensions
ai.onnx.ml.Imputer: imputed_value_floats imputed_value_int64s replaced_value_float replaced_value_int64
ai.onnx.ml.LabelEncoder: classes_strings default_float default_int64 default_string default_tensor keys_floats keys_int64s keys_strings keys_tensor values_floats values_int64s values_strings values_tensor
ai.onnx.ml.LinearClassifier: classlabels_ints classlabels_strings coefficients intercepts multi_class post_transform
ai.onnx.ml.LinearRegressor: coefficients intercepts post_transform targets
ai.onnx.ml.Normalizer: norm
ai.onnx.ml.OneHotEncoder: cats_int64s cats_strings zeros
ai.onnx.ml.SVMClassifier: classlabels_ints classlabels_strings coefficients kernel_params kernel_type post_transform prob_a prob_b rho support_vectors vectors_per_class
ai.onnx.ml.SVMRegressor: coefficients kernel_params kernel_type n_supports one_class post_transform rho support_vectors
ai.onnx.ml.Scaler: offset scale
ai.onnx.ml.TreeEnsemble: aggregate_function leaf_targetids leaf_weights membership_values n_targets nodes_falseleafs nodes_falsenodeids nodes_featureids nodes_hitrates nodes_missing_value_tracks_true nodes_modes nodes_splits nodes_trueleafs nodes_truenodeids post_transform tree_roots
ai.onnx.ml.TreeEnsembleClassifier: base_values base_values_as_tensor class_ids class_nodeids class_treeids class_weights class_weights_as_tensor classlabels_int64s classlabels_strings nodes_falsenodeids nodes_featureids nodes_hitrates nodes_hitrates_as_tensor nodes_missing_value_tracks_true nodes_modes nodes_nodeids nodes_treeids nodes_truenodeids nodes_values nodes_values_as_tensor post_transform
ai.onnx.ml.TreeEnsembleRegressor: aggregate_function base_values base_values_as_tensor n_targets nodes_falsenodeids nodes_featureids nodes_hitrates nodes_hitrates_as_tensor nodes_missing_value_tracks_true nodes_modes nodes_nodeids nodes_treeids nodes_truenodeids nodes_values nodes_values_as_tensor post_transform target_ids target_nodeids target_treeids target_weights target_weights_as_tensor
ai.onnx.ml.ZipMap: classlabels_int64s classlabels_strings
ai.onnx.preview.FlexAttention: prob_mod scale score_mod softmax_precision
ai.onnx.preview.training.Adagrad: decay_factor epsilon norm_coefficient
ai.onnx.preview.training.Adam: alpha beta epsilon norm_coefficient norm_coefficient_post
ai.onnx.preview.training.Gradient: xs y zs
ai.onnx.preview.training.Momentum: alpha beta mode norm_coefficient
com.microsoft.Attention: do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes rotary_embedding_dim scale unidirectional
com.microsoft.AttnLSTM: activation_alpha activation_beta activations clip direction hidden_size input_forget
com.microsoft.BeamSearch: decoder decoder_start_token_id early_stopping encoder eos_token_id init_decoder model_type no_repeat_ngram_size pad_token_id vocab_size
com.microsoft.BiasAdd:
com.microsoft.BiasDropout: seed
com.microsoft.BiasGelu:
com.microsoft.BiasSoftmax: axis is_inner_broadcast
com.microsoft.BiasSplitGelu:
com.microsoft.BifurcationDetector: max_ngram_size min_ngram_size
com.microsoft.BitmaskBiasDropout: seed
com.microsoft.BitmaskDropout: seed
com.microsoft.BranchwiseRMSNorm: epsilon num_branches
com.microsoft.CDist: metric
com.microsoft.CausalConvWithState: activation channels_last dilation input_channel_offset input_channels ndim state_channels_last state_length state_update_capacity state_window
com.microsoft.ComplexMul:
com.microsoft.ComplexMulConj:
com.microsoft.ConvStateReplay:
com.microsoft.ConvTransposeWithDynamicPads: auto_pad dilations group kernel_shape output_padding strides
com.microsoft.CropAndResize: extrapolation_value mode
com.microsoft.DecoderAttention: mask_filter_value num_heads
com.microsoft.DecoderMaskedMultiHeadAttention: mask_filter_value num_heads output_qk past_present_share_buffer scale
com.microsoft.DecoderMaskedSelfAttention: do_rotary mask_filter_value num_heads past_present_share_buffer scale
com.microsoft.DequantizeBFP: bfp_type block_dim dtype
com.microsoft.DequantizeLinear: axis
com.microsoft.DequantizeWithOrder: order_input order_output to
com.microsoft.DynamicQuantizeLSTM: activation_alpha activation_beta activations clip direction hidden_size input_forget
com.microsoft.DynamicQuantizeMatMul:
com.microsoft.DynamicSparseAttention: attention_mode auxiliary_kv_shared do_rotary is_causal kv_num_heads local_window_size num_heads output_bf16 qk_norm_epsilon rotary_interleaved rotary_offset scale selected_kv_source smooth_softmax
com.microsoft.DynamicTimeWarping:
com.microsoft.EPContext: embed_mode ep_cache_context ep_sdk_version hardware_architecture main_context max_size notes onnx_model_filename partition_name source
com.microsoft.EmbedLayerNormalization: epsilon mask_index_type
com.microsoft.EngramGate: epsilon
com.microsoft.ExpandDims:
com.microsoft.FastGelu:
com.microsoft.FusedConv: activation activation_params auto_pad dilations group kernel_shape pads strides
com.microsoft.FusedGemm: activation activation_alpha activation_beta activation_gamma alpha beta transA transB
com.microsoft.FusedMatMul: alpha transA transB transBatchA transBatchB
com.microsoft.FusedMatMulActivation: activation activation_alpha activation_axis activation_beta activation_gamma alpha transA transB transBatchA transBatchB
com.microsoft.GatedAdd:
com.microsoft.GatedDeltaNet: beta_activation chunk_size gate_activation gate_lower_bound qk_l2_norm scale state_update_capacity update_rule
com.microsoft.GatedDeltaNetStateReplay:
com.microsoft.GatedRMSNorm: activation epsilon
com.microsoft.GatedRelativePositionBias: num_heads
com.microsoft.GatherBlockQuantized: bits block_size gather_axis quantize_axis
com.microsoft.GatherND:
com.microsoft.GatherPacked: K output_dtype packed_type
com.microsoft.Gelu:
com.microsoft.GemmFastGelu:
com.microsoft.GemmFloat8: activation alpha beta dtype transA transB
com.microsoft.GemmaRotaryEmbedding:
com.microsoft.GreedySearch: decoder decoder_start_token_id encoder eos_token_id init_decoder model_type no_repeat_ngram_size pad_token_id vocab_size
com.microsoft.GridSample: align_corners mode padding_mode
com.microsoft.GroupNorm: activation channels_last epsilon groups
com.microsoft.GroupQueryAttention: causal do_rotary k_norm_epsilon k_quant_type kv_cache_bit_width kv_num_heads local_window_size num_heads q_norm_epsilon qk_norm_epsilon qk_output rotary_interleaved scale sliding_window_cache smooth_softmax softcap v_quant_type
com.microsoft.HyperConnectionLowRankMix: epsilon gate_div gate_mul num_branches reduction_scale silu_alpha
com.microsoft.HyperConnectionPostMix: num_branches
com.microsoft.HyperConnectionPreMix: num_branches reduction_scale
com.microsoft.Inverse:
com.microsoft.Irfft: normalized onesided signal_ndim
com.microsoft.IsAllFinite: isinf_only isnan_only
com.microsoft.LinearAttention: chunk_size kv_num_heads q_num_heads scale state_window update_rule
com.microsoft.LinearAttentionGate:
com.microsoft.LongformerAttention: num_heads window
com.microsoft.MRotaryEmbedding: interleaved is_packed_batching mrope_layout mrope_section num_heads rotary_embedding_dim scale
com.microsoft.Mamba2Verify: d_state epsilon head_dim heads n_groups time_step_min
com.microsoft.MatMulBlockQuantizedFp4Weight: block_size
com.microsoft.MatMulBlockQuantizedFp8Weight: block_size
com.microsoft.MatMulBnb4: K N block_size quant_type training_mode transB
com.microsoft.MatMulFpQ4: blk_quant_type
com.microsoft.MatMulInteger16:
com.microsoft.MatMulIntegerToFloat:
com.microsoft.MatMulNBits: K N accuracy_level bits block_size weight_prepacked
com.microsoft.MatMulNBitsMlp: K N accuracy_level activation bits block_size epsilon
com.microsoft.MatMulNBitsQLoRA: K N accuracy_level bits block_size lora_bits lora_block_size
com.microsoft.MatMulNBitsQkv: K Nkv Nq accuracy_level bits block_size epsilon
com.microsoft.MatMulPacked: K N activation_type packed_type
com.microsoft.MaxpoolWithMask: auto_pad kernel_shape pads storage_order strides
com.microsoft.MoE: activation_alpha activation_beta activation_type k normalize_routing_weights swiglu_fusion swiglu_limit swiglu_limit_after_activation use_sparse_mixer
com.microsoft.MoEGroupRouter: group_topk n_group router_sentinel top_k topk_group
com.microsoft.MoEPacked: activation_type down_type gate_type k normalize_routing_weights routed_scaling_factor routing_epsilon up_type
com.microsoft.MulInteger:
com.microsoft.MultiHeadAttention: mask_filter_value num_heads scale unidirectional
com.microsoft.MurmurHash3: positive seed
com.microsoft.NGramHashMapping: max_ngram_size n_head_per_ngram pad_id reset_on_eos
com.microsoft.NGramRepeatBlock: ngram_size
com.microsoft.NhwcConv: auto_pad dilations group kernel_shape pads strides
com.microsoft.NhwcFusedConv: activation activation_params auto_pad dilations group kernel_shape pads strides
com.microsoft.NhwcMaxPool: auto_pad ceil_mode dilations kernel_shape pads strides
com.microsoft.PackedAttention: num_heads qkv_hidden_sizes scale
com.microsoft.PackedMultiHeadAttention: mask_filter_value num_heads scale
com.microsoft.PackedSparseAttentionIndexer: compress_ratio epsilon head_weight_scale index_topk indexshare_state_policy max_output_entries policy_mode scale state_capacity state_update_capacity token_budget
com.microsoft.PackedSparseAttentionIndexerMerge: max_output_entries policy_mode
com.microsoft.Pad: mode
com.microsoft.PagedAttention: do_rotary is_causal k_cache_dtype k_quant_type kv_cache_layout kv_num_heads local_window_size num_heads qk_norm_epsilon rotary_interleaved rotary_offset scale softcap v_cache_dtype v_head_size v_quant_type
com.microsoft.QAttention: do_rotary mask_filter_value num_heads past_present_share_buffer scale unidirectional
com.microsoft.QEmbedLayerNormalization: epsilon
com.microsoft.QGemm: alpha transA transB
com.microsoft.QLinearAdd:
com.microsoft.QLinearAveragePool: auto_pad ceil_mode channels_last count_include_pad kernel_shape pads strides
com.microsoft.QLinearConcat: axis
com.microsoft.QLinearConv: auto_pad channels_last dilations group kernel_shape pads strides
com.microsoft.QLinearGlobalAveragePool: channels_last
com.microsoft.QLinearLeakyRelu: alpha
com.microsoft.QLinearMul:
com.microsoft.QLinearReduceMean: axes keepdims
com.microsoft.QLinearSigmoid:
com.microsoft.QLinearSoftmax: axis opset
com.microsoft.QLinearWhere:
com.microsoft.QMoE: accuracy_level activation_alpha activation_beta activation_type block_size expert_weight_bits fc1_expert_weight_bits fc2_expert_weight_bits fc3_expert_weight_bits k normalize_routing_weights quant_type swiglu_fusion swiglu_limit swiglu_limit_after_activation use_sparse_mixer weights_prepacked
com.microsoft.QOrderedAttention: num_heads order_input order_output order_weight qkv_hidden_sizes unidirectional
com.microsoft.QOrderedGelu: order_X order_Y
com.microsoft.QOrderedLayerNormalization: axis epsilon order_X order_Y
com.microsoft.QOrderedLongformerAttention: num_heads order_global_weight order_input order_output order_weight window
com.microsoft.QOrderedMatMul: order_A order_B order_Y
com.microsoft.QuantizeBFP: bfp_type block_dim
com.microsoft.QuantizeLinear: axis
com.microsoft.QuantizeWithOrder: order_input order_output
com.microsoft.QuickGelu: alpha
com.microsoft.RMSNormRotary: epsilon flatten_batch input_start input_width output_fp16 rotary_embedding_dim use_fp32_arithmetic
com.microsoft.Range:
com.microsoft.ReduceSumInteger: axes keepdims
com.microsoft.RelativePositionBias: is_bidirectional max_distance
com.microsoft.RemovePadding:
com.microsoft.RestorePadding:
com.microsoft.Rfft: normalized onesided signal_ndim
com.microsoft.RotaryEmbedding: interleaved is_packed_batching num_heads rotary_embedding_dim scale
com.microsoft.RouterGateUpProj: activation activation_alpha activation_beta limit router_size
com.microsoft.SampleOp:
com.microsoft.Sampling: custom decoder decoder_start_token_id encoder eos_token_id filter_value init_decoder min_tokens_to_keep model_type no_repeat_ngram_size pad_token_id presence_penalty temperature top_p vocab_size
com.microsoft.ScaledSiLU: alpha
com.microsoft.SkipGroupNorm: activation channels_last epsilon groups
com.microsoft.SkipLayerNormalization: epsilon
com.microsoft.SkipSimplifiedLayerNormalization: epsilon
com.microsoft.Snpe: DLC notes snpe_version target_device
com.microsoft.SparseAttention: do_rotary kv_num_heads num_heads rotary_interleaved scale sparse_block_size
com.microsoft.SparseAttentionIndexer: compress_ratio epsilon head_weight_scale index_topk policy_mode scale token_budget
com.microsoft.SparsePagedAttention: attention_mode auxiliary_cache_layout auxiliary_kv_shared do_rotary is_causal k_quant_type kv_num_heads local_window_size num_heads qk_norm_epsilon rotary_interleaved rotary_offset scale selected_kv_source softcap v_quant_type
com.microsoft.SparseToDenseMatMul: alpha transA transB
com.microsoft.SpeculativePrefixCommit: head_rows
com.microsoft.SwiGLU: activation_alpha activation_beta limit round_activation
com.microsoft.Tokenizer: mark mincharnum pad_value separators tokenexp
com.microsoft.TorchEmbedding:
com.microsoft.TransposeMatMul: alpha transA transB
com.microsoft.Trilu: upper
com.microsoft.UnfoldTensor: dim size step
com.microsoft.Unique:
com.microsoft.VarlenCausalConvWithState: activation delta_offset dilation group_size state_update_capacity
com.microsoft.VarlenNGramHashMapping: max_ngram_size n_head_per_ngram pad_id reset_on_eos state_update_capacity
com.microsoft.WhisperBeamSearch: beginning_timestamp_token_id decoder decoder_output_cross_qk decoder_start_token_id early_stopping encoder eos_token_id init_decoder model_type no_repeat_ngram_size no_speech_token_id no_timestamps_token_id pad_token_id start_of_lm_token_id transcribe_token_id translate_token_id vocab_size
com.microsoft.WordConvEmbedding: char_embedding_size conv_window_size embedding_size
)";

using Table = std::unordered_map<std::string_view, std::string_view>;

const Table& attribute_names() {
  static const Table names = [] {
    Table found;
    for (std::string_view rest = list; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      if (const size_t colon = line.find(':'); colon != std::string_view::npos)
        found.emplace(line.substr(0, colon), line.substr(colon + 1));
    }
    return found;
  }();
  return names;
}

bool has_word(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    words.remove_prefix(1);  // the blank before each
    const std::string_view first = words.substr(0, words.find(' '));
    if (first == word) return true;
    words.remove_prefix(first.size());
  }
  return false;
}

}  // namespace

void check_attributes(const Node& node) {
  if (node.attributes.empty()) return;
  // What ONNX Runtime made for itself has the attributes of the operator that it stands for, and one of its own.
  const bool made = node.domain == "com.ms.internal.nhwc";
  std::string key(made ? std::string_view() : node.domain);
  if (!key.empty()) key += '.';
  key += node.op_type;
  auto found = attribute_names().find(key);
  if (found == attribute_names().end() && made) found = attribute_names().find("com.microsoft." + key);
  if (found == attribute_names().end()) return;
  for (const auto& attribute : node.attributes) {
    const std::string_view name = attribute->name;
    if (name.substr(0, 2) == "__" || has_word(found->second, name)) continue;  // two underscores: tools' own
    if (made && name == "channels_last") continue;
    const std::string_view known = found->second;
    throw Error(Code::model_invalid, fmt::format("{} has no attribute '{}'; {}", shown(node.op_type), shown(name),
                                                 known.empty() ? "it has none" : fmt::format("it has{}", known)))
        .with_hint("correct the attribute's name, or remove it from the model where it means nothing");
  }
}

}  // namespace sinter::onnx
