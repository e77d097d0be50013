"""The C API of oneDNN 3: the functions that are called, and the numbers of its enumerations.

Every number here is part of the stable interface of version 3: it is the same in 3.2 and in 3.12.
"""

from __future__ import annotations

DECLARATIONS = """
typedef void *handle;
typedef const int64_t *dims;
typedef struct { int arg; handle memory; } exec_arg;
typedef struct {
    int major, minor, patch; const char *hash; unsigned cpu_runtime, gpu_runtime;
} version;

const version *dnnl_version(void);
int dnnl_get_effective_cpu_isa(void);
size_t dnnl_engine_get_count(int kind);
int dnnl_engine_create(handle *, int kind, size_t index);
int dnnl_stream_create(handle *, handle engine, unsigned flags);
int dnnl_stream_destroy(handle);

int dnnl_memory_desc_create_with_strides(handle *, int ndims, dims, int dtype, dims strides);
int dnnl_memory_desc_create_with_tag(handle *, int ndims, dims, int dtype, int tag);
int dnnl_memory_desc_reshape(handle *, handle, int ndims, dims);
int dnnl_memory_desc_permute_axes(handle *, handle, const int *permutation);
int dnnl_memory_desc_clone(handle *, handle);
int dnnl_memory_desc_query(handle, int what, void *result);
int dnnl_memory_desc_equal(handle, handle);
size_t dnnl_memory_desc_get_size(handle);
int dnnl_memory_desc_destroy(handle);

int dnnl_memory_create(handle *, handle descriptor, handle engine, void *address);
int dnnl_memory_set_data_handle(handle, void *address);
int dnnl_memory_destroy(handle);

int dnnl_post_ops_create(handle *);
int dnnl_post_ops_append_eltwise(handle, int algorithm, float alpha, float beta);
int dnnl_post_ops_append_sum(handle, float scale, int32_t zero_point, int dtype);
int dnnl_post_ops_append_binary(handle, int algorithm, handle descriptor);
int dnnl_post_ops_destroy(handle);
int dnnl_primitive_attr_create(handle *);
int dnnl_primitive_attr_set_scratchpad_mode(handle, int);
int dnnl_primitive_attr_set_fpmath_mode(handle, int);
int dnnl_primitive_attr_set_post_ops(handle, handle post_ops);
int dnnl_primitive_attr_destroy(handle);

int dnnl_primitive_desc_query(handle, int what, int index, void *result);
handle dnnl_primitive_desc_query_md(handle, int what, int index);
int dnnl_primitive_desc_destroy(handle);
int dnnl_primitive_create(handle *, handle description);
int dnnl_primitive_execute(handle, handle stream, int nargs, const exec_arg *);
int dnnl_primitive_destroy(handle);

int dnnl_reorder_primitive_desc_create(
    handle *, handle src, handle src_engine, handle dst, handle dst_engine, handle attr);
int dnnl_matmul_primitive_desc_create(
    handle *, handle engine, handle src, handle weights, handle bias, handle dst, handle attr);
int dnnl_convolution_forward_primitive_desc_create(
    handle *, handle engine, int propagation, int algorithm,
    handle src, handle weights, handle bias, handle dst,
    dims strides, dims dilates, dims padding_l, dims padding_r, handle attr);
int dnnl_convolution_backward_data_primitive_desc_create(
    handle *, handle engine, int algorithm, handle diff_src, handle weights, handle diff_dst,
    dims strides, dims dilates, dims padding_l, dims padding_r, handle forward, handle attr);
int dnnl_convolution_backward_weights_primitive_desc_create(
    handle *, handle engine, int algorithm,
    handle src, handle diff_weights, handle diff_bias, handle diff_dst,
    dims strides, dims dilates, dims padding_l, dims padding_r, handle forward, handle attr);
int dnnl_inner_product_forward_primitive_desc_create(
    handle *, handle engine, int propagation,
    handle src, handle weights, handle bias, handle dst, handle attr);
int dnnl_inner_product_backward_data_primitive_desc_create(
    handle *, handle engine, handle diff_src, handle weights, handle diff_dst,
    handle forward, handle attr);
int dnnl_inner_product_backward_weights_primitive_desc_create(
    handle *, handle engine, handle src, handle diff_weights, handle diff_bias, handle diff_dst,
    handle forward, handle attr);
int dnnl_pooling_forward_primitive_desc_create(
    handle *, handle engine, int propagation, int algorithm, handle src, handle dst,
    dims strides, dims kernel, dims dilation, dims padding_l, dims padding_r, handle attr);
int dnnl_pooling_backward_primitive_desc_create(
    handle *, handle engine, int algorithm, handle diff_src, handle diff_dst,
    dims strides, dims kernel, dims dilation, dims padding_l, dims padding_r,
    handle forward, handle attr);

int omp_get_max_threads(void);
void omp_set_num_threads(int);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
void GOMP_parallel(void *function, void *data, unsigned threads, unsigned flags);
"""

STATUS = (
    "success",
    "out_of_memory",
    "invalid_arguments",
    "unimplemented",
    "last_impl_reached",
    "runtime_error",
    "not_required",
)
SUCCESS = STATUS.index("success")
UNIMPLEMENTED = STATUS.index("unimplemented")

DTYPES = {"float16": 1, "bfloat16": 2, "float32": 3, "int32": 4, "int8": 5, "uint8": 6}
MOST_AXES = 12
ANY_TAG = 1

CPU = 1
IN_ORDER = 1
RUNTIMES = {
    0: "none",
    1: "sequential",
    2: "OpenMP",
    4: "TBB",
    8: "threadpool",
    512: "SYCL",
}
INSTRUCTIONS = {
    0x01: "sse41",
    0x03: "avx",
    0x07: "avx2",
    0x0F: "avx2_vnni",
    0x1F: "avx2_vnni_2",
    0x27: "avx512_core",
    0x67: "avx512_core_vnni",
    0xE7: "avx512_core_bf16",
    0x1EF: "avx512_core_fp16",
    0xFEF: "avx512_core_amx",
    0x1FEF: "avx512_core_amx_fp16",
}

TRAINING, INFERENCE = 64, 96
DIRECT_CONVOLUTION = 1
POOLING = {"max": 0x1FF, "mean_with_padding": 0x2FF, "mean": 0x3FF}
RELU = 0x20
BINARY = {"add": 0x1FFF0, "mul": 0x1FFF1}
USER_SCRATCHPAD = 1
FPMATH = {"strict": 0, "bf16": 1, "f16": 2, "any": 3, "tf32": 4}

# What can be asked of a memory descriptor and of a primitive descriptor.
QUERY_IMPLEMENTATION = 8
QUERY_STRIDES = 14
QUERY_ARGUMENT = 255
QUERY_NDIMS = 256
QUERY_DIMS = 257
QUERY_DTYPE = 258
QUERY_PADDED_DIMS = 260
QUERY_FORMAT_KIND = 262
QUERY_BLOCK_COUNT = 263
QUERY_BLOCK_SIZES = 264
QUERY_BLOCK_AXES = 265
ANY_FORMAT, BLOCKED_FORMAT = 1, 2

# The number by which a primitive knows an operand.
ARGUMENTS = {
    "src": 1,
    "dst": 17,
    "weights": 33,
    "bias": 41,
    "workspace": 64,
    "scratchpad": 80,
    "diff_src": 129,
    "diff_dst": 145,
    "diff_weights": 161,
    "diff_bias": 169,
}
_POST_OP, _SECOND = 32768, 2


def post_op_argument(position: int) -> int:
    """Give the number of the operand of the post-op at a position (a binary one)."""
    return _POST_OP * (position + 1) | _SECOND
