"""The C API of cuBLASLt that is used: signatures, and the numbers of its enumerations."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p

HANDLE = c_void_p


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t: what to run, opaque."""

    _fields_ = (("data", c_uint64 * 8),)


class Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm and what it needs."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


SIGNATURES: dict[str, tuple[type, ...]] = {
    "cublasLtCreate": (POINTER(HANDLE),),
    "cublasLtDestroy": (HANDLE,),
    "cublasLtMatmulDescCreate": (POINTER(HANDLE), c_int, c_int),
    "cublasLtMatmulDescDestroy": (HANDLE,),
    "cublasLtMatmulDescSetAttribute": (HANDLE, c_int, c_void_p, c_size_t),
    "cublasLtMatrixLayoutCreate": (POINTER(HANDLE), c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutDestroy": (HANDLE,),
    "cublasLtMatrixLayoutSetAttribute": (HANDLE, c_int, c_void_p, c_size_t),
    "cublasLtMatmulPreferenceCreate": (POINTER(HANDLE),),
    "cublasLtMatmulPreferenceDestroy": (HANDLE,),
    "cublasLtMatmulPreferenceSetAttribute": (HANDLE, c_int, c_void_p, c_size_t),
    "cublasLtMatmulAlgoGetHeuristic": (
        HANDLE, HANDLE, HANDLE, HANDLE, HANDLE, HANDLE, HANDLE, c_int, POINTER(Found),
        POINTER(c_int),
    ),
    "cublasLtMatmul": (
        HANDLE, HANDLE, c_void_p, c_void_p, HANDLE, c_void_p, HANDLE, c_void_p, c_void_p, HANDLE,
        c_void_p, HANDLE, POINTER(Algorithm), c_void_p, c_size_t, c_void_p,
    ),
}  # fmt: skip

STATUS = {
    1: "not initialised", 3: "allocation failed", 7: "invalid value", 8: "architecture mismatch",
    11: "mapping error", 13: "execution failed", 14: "internal error", 15: "not supported",
    16: "licence error",
}  # fmt: skip

# cudaDataType
TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
# cublasComputeType_t
EXACT, TF32, DOUBLE = 68, 77, 70
# cublasOperation_t
PLAIN, TURNED = 0, 1
# cublasLtMatmulDescAttributes_t
TURN_A, TURN_B, EPILOGUE, BIAS, BIAS_TYPE = 3, 4, 7, 8, 26
# cublasLtEpilogue_t
WITH_BIAS, WITH_BIAS_AND_RELU = 4, 6
# cublasLtMatrixLayoutAttribute_t
COUNT, STEP = 5, 6
# cublasLtMatmulPreferenceAttributes_t
MOST_WORKSPACE, REDUCTIONS, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # these of A, B, C and D
# cublasLtReductionScheme_t
IN_SUMS = 2
