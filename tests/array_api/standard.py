"""The names of the array API standard, 2024.12, by section, with their parameters.

A line is a signature as Python has it; `/` ends what is positional only, as the standard says.
"""

SECTIONS = {
    "constants": "e inf nan newaxis pi",
    "dtypes": """
        bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128
    """,
}

FUNCTIONS = {
    "creation": """
        arange(start, /, stop=None, step=1, *, dtype=None, device=None)
        asarray(obj, /, *, dtype=None, device=None, copy=None)
        empty(shape, *, dtype=None, device=None)
        empty_like(x, /, *, dtype=None, device=None)
        eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
        from_dlpack(x, /, *, device=None, copy=None)
        full(shape, fill_value, *, dtype=None, device=None)
        full_like(x, /, fill_value, *, dtype=None, device=None)
        linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
        meshgrid(*arrays, indexing='xy')
        ones(shape, *, dtype=None, device=None)
        ones_like(x, /, *, dtype=None, device=None)
        tril(x, /, *, k=0)
        triu(x, /, *, k=0)
        zeros(shape, *, dtype=None, device=None)
        zeros_like(x, /, *, dtype=None, device=None)
    """,
    "data type": """
        astype(x, dtype, /, *, copy=True, device=None)
        can_cast(from_, to, /)
        finfo(type, /)
        iinfo(type, /)
        isdtype(dtype, kind)
        result_type(*arrays_and_dtypes)
    """,
    "elementwise": """
        abs(x, /)
        acos(x, /)
        acosh(x, /)
        add(x1, x2, /)
        asin(x, /)
        asinh(x, /)
        atan(x, /)
        atan2(x1, x2, /)
        atanh(x, /)
        bitwise_and(x1, x2, /)
        bitwise_invert(x, /)
        bitwise_left_shift(x1, x2, /)
        bitwise_or(x1, x2, /)
        bitwise_right_shift(x1, x2, /)
        bitwise_xor(x1, x2, /)
        ceil(x, /)
        clip(x, /, min=None, max=None)
        conj(x, /)
        copysign(x1, x2, /)
        cos(x, /)
        cosh(x, /)
        divide(x1, x2, /)
        equal(x1, x2, /)
        exp(x, /)
        expm1(x, /)
        floor(x, /)
        floor_divide(x1, x2, /)
        greater(x1, x2, /)
        greater_equal(x1, x2, /)
        hypot(x1, x2, /)
        imag(x, /)
        isfinite(x, /)
        isinf(x, /)
        isnan(x, /)
        less(x1, x2, /)
        less_equal(x1, x2, /)
        log(x, /)
        log10(x, /)
        log1p(x, /)
        log2(x, /)
        logaddexp(x1, x2, /)
        logical_and(x1, x2, /)
        logical_not(x, /)
        logical_or(x1, x2, /)
        logical_xor(x1, x2, /)
        maximum(x1, x2, /)
        minimum(x1, x2, /)
        multiply(x1, x2, /)
        negative(x, /)
        nextafter(x1, x2, /)
        not_equal(x1, x2, /)
        positive(x, /)
        pow(x1, x2, /)
        real(x, /)
        reciprocal(x, /)
        remainder(x1, x2, /)
        round(x, /)
        sign(x, /)
        signbit(x, /)
        sin(x, /)
        sinh(x, /)
        sqrt(x, /)
        square(x, /)
        subtract(x1, x2, /)
        tan(x, /)
        tanh(x, /)
        trunc(x, /)
    """,
    "indexing": """
        take(x, indices, /, *, axis=None)
        take_along_axis(x, indices, /, *, axis=-1)
    """,
    "inspection": "__array_namespace_info__()",
    "linear algebra": """
        matmul(x1, x2, /)
        matrix_transpose(x, /)
        tensordot(x1, x2, /, *, axes=2)
        vecdot(x1, x2, /, *, axis=-1)
    """,
    "manipulation": """
        broadcast_arrays(*arrays)
        broadcast_to(x, /, shape)
        concat(arrays, /, *, axis=0)
        expand_dims(x, /, axis)
        flip(x, /, *, axis=None)
        moveaxis(x, source, destination, /)
        permute_dims(x, /, axes)
        repeat(x, repeats, /, *, axis=None)
        reshape(x, /, shape, *, copy=None)
        roll(x, /, shift, *, axis=None)
        squeeze(x, /, axis)
        stack(arrays, /, *, axis=0)
        tile(x, repetitions, /)
        unstack(x, /, *, axis=0)
    """,
    "searching": """
        argmax(x, /, *, axis=None, keepdims=False)
        argmin(x, /, *, axis=None, keepdims=False)
        count_nonzero(x, /, *, axis=None, keepdims=False)
        nonzero(x, /)
        searchsorted(x1, x2, /, *, side='left', sorter=None)
        where(condition, x1, x2, /)
    """,
    "set": """
        unique_all(x, /)
        unique_counts(x, /)
        unique_inverse(x, /)
        unique_values(x, /)
    """,
    "sorting": """
        argsort(x, /, *, axis=-1, descending=False, stable=True)
        sort(x, /, *, axis=-1, descending=False, stable=True)
    """,
    "statistical": """
        cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
        cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
        max(x, /, *, axis=None, keepdims=False)
        mean(x, /, *, axis=None, keepdims=False)
        min(x, /, *, axis=None, keepdims=False)
        prod(x, /, *, axis=None, dtype=None, keepdims=False)
        std(x, /, *, axis=None, correction=0.0, keepdims=False)
        sum(x, /, *, axis=None, dtype=None, keepdims=False)
        var(x, /, *, axis=None, correction=0.0, keepdims=False)
    """,
    "utility": """
        all(x, /, *, axis=None, keepdims=False)
        any(x, /, *, axis=None, keepdims=False)
        diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
    """,
}

EXTENSIONS = {
    "linalg": """
        cholesky(x, /, *, upper=False)
        cross(x1, x2, /, *, axis=-1)
        det(x, /)
        diagonal(x, /, *, offset=0)
        eigh(x, /)
        eigvalsh(x, /)
        inv(x, /)
        matmul(x1, x2, /)
        matrix_norm(x, /, *, keepdims=False, ord='fro')
        matrix_power(x, n, /)
        matrix_rank(x, /, *, rtol=None)
        matrix_transpose(x, /)
        outer(x1, x2, /)
        pinv(x, /, *, rtol=None)
        qr(x, /, *, mode='reduced')
        slogdet(x, /)
        solve(x1, x2, /)
        svd(x, /, *, full_matrices=True)
        svdvals(x, /)
        tensordot(x1, x2, /, *, axes=2)
        trace(x, /, *, offset=0, dtype=None)
        vecdot(x1, x2, /, *, axis=-1)
        vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
    """,
    "fft": """
        fft(x, /, *, n=None, axis=-1, norm='backward')
        fftfreq(n, /, *, d=1.0, dtype=None, device=None)
        fftn(x, /, *, s=None, axes=None, norm='backward')
        fftshift(x, /, *, axes=None)
        hfft(x, /, *, n=None, axis=-1, norm='backward')
        ifft(x, /, *, n=None, axis=-1, norm='backward')
        ifftn(x, /, *, s=None, axes=None, norm='backward')
        ifftshift(x, /, *, axes=None)
        ihfft(x, /, *, n=None, axis=-1, norm='backward')
        irfft(x, /, *, n=None, axis=-1, norm='backward')
        irfftn(x, /, *, s=None, axes=None, norm='backward')
        rfft(x, /, *, n=None, axis=-1, norm='backward')
        rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
        rfftn(x, /, *, s=None, axes=None, norm='backward')
    """,
}

METHODS = """
    __abs__()
    __add__(other, /)
    __and__(other, /)
    __array_namespace__(*, api_version=None)
    __bool__()
    __complex__()
    __dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None)
    __dlpack_device__()
    __eq__(other, /)
    __float__()
    __floordiv__(other, /)
    __ge__(other, /)
    __getitem__(key, /)
    __gt__(other, /)
    __index__()
    __int__()
    __invert__()
    __le__(other, /)
    __lshift__(other, /)
    __lt__(other, /)
    __matmul__(other, /)
    __mod__(other, /)
    __mul__(other, /)
    __ne__(other, /)
    __neg__()
    __or__(other, /)
    __pos__()
    __pow__(other, /)
    __rshift__(other, /)
    __setitem__(key, value, /)
    __sub__(other, /)
    __truediv__(other, /)
    __xor__(other, /)
    to_device(device, /, *, stream=None)
"""

OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"

ATTRIBUTES = "dtype device mT ndim shape size T"


def lines(text: str) -> list[str]:
    """Give the signatures of a section, one a line."""
    return [line.strip() for line in text.strip().splitlines()]


# Which dtypes elementwise functions take, in the standard's words.
TAKES = {
    "any": "equal not_equal",
    "numeric": """
        abs add conj isfinite isinf isnan multiply negative positive pow real round sign square
        subtract
    """,
    "real-valued": """
        ceil clip floor floor_divide greater greater_equal less less_equal maximum minimum remainder
        trunc
    """,
    "floating-point": """
        acos acosh asin asinh atan atanh cos cosh divide exp expm1 log log10 log1p log2 reciprocal
        sin sinh sqrt tan tanh
    """,
    "real-valued floating-point": "atan2 copysign hypot logaddexp nextafter signbit",
    "complex floating-point": "imag",
    "integer": "bitwise_left_shift bitwise_right_shift",
    "integer or boolean": "bitwise_and bitwise_invert bitwise_or bitwise_xor",
    "boolean": "logical_and logical_not logical_or logical_xor",
}

_INTEGERS = "int8 int16 int32 int64 uint8 uint16 uint32 uint64"
WORDS = {
    "any": f"bool {_INTEGERS} float32 float64 complex64 complex128",
    "numeric": f"{_INTEGERS} float32 float64 complex64 complex128",
    "real-valued": f"{_INTEGERS} float32 float64",
    "floating-point": "float32 float64 complex64 complex128",
    "real-valued floating-point": "float32 float64",
    "complex floating-point": "complex64 complex128",
    "integer": _INTEGERS,
    "integer or boolean": f"bool {_INTEGERS}",
    "boolean": "bool",
}
