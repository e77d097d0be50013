// What the kernels call and C does not have. Nothing here depends on a device.

#define SG __device__ static __forceinline__

SG unsigned int bits_of(float x) { return (unsigned int)__float_as_int(x); }
SG unsigned long long bits_of(double x) { return (unsigned long long)__double_as_longlong(x); }
SG float float32_of(unsigned int x) { return __int_as_float((int)x); }
SG double float64_of(unsigned long long x) { return __longlong_as_double((long long)x); }

SG float infinity32() { return float32_of(0x7f800000u); }
SG double infinity64() { return float64_of(0x7ff0000000000000ull); }
SG float nan32() { return float32_of(0x7fc00000u); }
SG double nan64() { return float64_of(0x7ff8000000000000ull); }

// Neighbours that are read and written at once.
template <class T> struct alignas(4 * sizeof(T)) Four {
  T at[4];
  __device__ static __forceinline__ Four all(T x) { return Four{{x, x, x, x}}; }
};

// -- the threads of a warp -----------------------------------------------------------------------

template <class T> SG T shift_down(T x, int by) { return __shfl_down_sync(0xffffffffu, x, by); }
SG bool shift_down(bool x, int by) { return shift_down((int)x, by) != 0; }
SG signed char shift_down(signed char x, int by) { return (signed char)shift_down((int)x, by); }
SG short shift_down(short x, int by) { return (short)shift_down((int)x, by); }
SG unsigned char shift_down(unsigned char x, int by) {
  return (unsigned char)shift_down((unsigned int)x, by);
}
SG unsigned short shift_down(unsigned short x, int by) {
  return (unsigned short)shift_down((unsigned int)x, by);
}
template <class T> SG T of_first(T x) { return __shfl_sync(0xffffffffu, x, 0); }
SG bool of_first(bool x) { return of_first((int)x) != 0; }
SG signed char of_first(signed char x) { return (signed char)of_first((int)x); }
SG short of_first(short x) { return (short)of_first((int)x); }
SG unsigned char of_first(unsigned char x) { return (unsigned char)of_first((unsigned int)x); }
SG unsigned short of_first(unsigned short x) { return (unsigned short)of_first((unsigned int)x); }

// -- half precisions: floats in registers ---------------------------------------------------------

SG unsigned short bfloat16_bits(float x) {  // of a float that is one already
  return (unsigned short)(bits_of(x) >> 16);
}
SG float bfloat16_of(unsigned short x) { return float32_of((unsigned int)x << 16); }
SG float round_bfloat16(float x) {  // ties to even; a NaN stays quiet
  unsigned int bits = bits_of(x);
  unsigned int up = bits + 0x7fffu + ((bits >> 16) & 1u);
  return float32_of((x != x ? bits | 0x400000u : up) & 0xffff0000u);
}

SG float float16_of(unsigned short h) {
  unsigned int sign = (unsigned int)(h & 0x8000u) << 16, rest = h & 0x7fffu;
  if (rest >= 0x7c00u) return float32_of(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  if (rest >= 0x400u) return float32_of(sign | ((rest << 13) + 0x38000000u));
  float small = (float)rest * 0x1p-24f;
  return sign ? -small : small;
}
SG unsigned short float16_bits(float x) {  // rounds, ties to even
  unsigned int bits = bits_of(x), sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return (unsigned short)(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
  if (bits >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);
  if (bits < 0x38800000u) {  // subnormal: adding a power of two rounds to its last place
    float moved = float32_of(bits) + 0.5f;
    return (unsigned short)(sign | (bits_of(moved) - 0x3f000000u));
  }
  unsigned int up = bits + 0xfffu + ((bits >> 13) & 1u);
  return (unsigned short)(sign | ((up - 0x38000000u) >> 13));
}
SG float round_float16(float x) { return float16_of(float16_bits(x)); }
SG float to_odd(double x) {  // a float that a further rounding cannot spoil
  float near = (float)x;
  double back = (double)near;
  if (back == x || x != x) return near;
  unsigned int bits = bits_of(near);
  double size = back < 0 ? -back : back, wanted = x < 0 ? -x : x;
  return float32_of((size > wanted ? bits - 1u : bits) | 1u);
}

// -- floats ---------------------------------------------------------------------------------------

SG float fused(float a, float b, float c) { return fmaf(a, b, c); }
SG double fused(double a, double b, double c) { return fma(a, b, c); }
SG float root(float x) { return sqrtf(x); }
SG double root(double x) { return sqrt(x); }
SG float absolute(float x) { return fabsf(x); }
SG double absolute(double x) { return fabs(x); }
template <class T> SG bool is_nan(T x) { return x != x; }
SG bool is_infinite(float x) { return fabsf(x) == infinity32(); }
SG bool is_infinite(double x) { return fabs(x) == infinity64(); }
SG float modulo(float a, float b) {
  float rest = fmodf(a, b);
  return rest != 0 ? ((b < 0) != (rest < 0) ? rest + b : rest) : copysignf(0.0f, b);
}
SG double modulo(double a, double b) {
  double rest = fmod(a, b);
  return rest != 0 ? ((b < 0) != (rest < 0) ? rest + b : rest) : copysign(0.0, b);
}

// -- whole numbers, and both ----------------------------------------------------------------------

SG unsigned int whole(signed char x) { return (unsigned int)x; }
SG unsigned int whole(unsigned char x) { return x; }
SG unsigned int whole(short x) { return (unsigned int)x; }
SG unsigned int whole(unsigned short x) { return x; }
SG unsigned int whole(int x) { return (unsigned int)x; }
SG unsigned int whole(unsigned int x) { return x; }
SG unsigned long long whole(long long x) { return (unsigned long long)x; }
SG unsigned long long whole(unsigned long long x) { return x; }
SG bool absolute(bool x) { return x; }
SG signed char absolute(signed char x) { return (signed char)(x < 0 ? -x : x); }
SG short absolute(short x) { return (short)(x < 0 ? -x : x); }
SG int absolute(int x) { return x < 0 ? (int)(0u - (unsigned int)x) : x; }
SG long long absolute(long long x) { return x < 0 ? (long long)(0ull - (unsigned long long)x) : x; }
SG unsigned char absolute(unsigned char x) { return x; }
SG unsigned short absolute(unsigned short x) { return x; }
SG unsigned int absolute(unsigned int x) { return x; }
SG unsigned long long absolute(unsigned long long x) { return x; }
template <class T> SG T sign_of(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x == x ? (T)0 : x; }
template <class T> SG T least(T a, T b) { return a < b || a != a ? a : b; }
template <class T> SG T largest(T a, T b) { return a > b || a != a ? a : b; }

template <class T> SG T floor_divide(T a, T b) {  // by 0 it gives 0
  if (b == 0) return 0;
  if ((T)-1 < 0 && b == (T)-1) return (T)(0 - whole(a));
  T quotient = (T)(a / b);
  return (a % b != 0) && ((a % b < 0) != (b < 0)) ? (T)(quotient - 1) : quotient;
}
template <class T> SG T floor_modulo(T a, T b) {  // the sign of b; by 0 it gives 0
  if (b == 0 || ((T)-1 < 0 && b == (T)-1)) return 0;
  T rest = (T)(a % b);
  return rest != 0 && ((rest < 0) != (b < 0)) ? (T)(rest + b) : rest;
}
template <class T> SG T shift_left(T a, T b) {
  return b >= 0 && (unsigned long long)b < 8 * sizeof(T) ? (T)(whole(a) << b) : (T)0;
}
template <class T> SG T shift_right(T a, T b) {
  bool fits = b >= 0 && (unsigned long long)b < 8 * sizeof(T);
  return fits ? (T)(a >> b) : (T)(a < 0 ? -1 : 0);
}
template <class T, class F> SG T cut(F x) {  // what does not fit gives some number
  if ((T)-1 > 0 && sizeof(T) == 8) {
    if (!(x > (F)-1)) return x != x ? (T)0 : (T)(long long)(x < (F)-0x1p63 ? (F)-0x1p63 : x);
    return x < (F)0x1p64 ? (T)(unsigned long long)x : (T)-1;
  }
  if (!(x > (F)-0x1p63)) return (T)(x != x ? 0 : -9223372036854775807LL - 1);
  return (T)(x < (F)0x1p63 ? (long long)x : 9223372036854775807LL);
}

// -- random words ---------------------------------------------------------------------------------

struct Words { unsigned int word[4]; };
SG Words philox(unsigned int a, unsigned int b, unsigned int c, unsigned int d,
                unsigned int key, unsigned int other) {
  for (int round = 0; round < PHILOX_ROUNDS; ++round) {
    unsigned long long first = (unsigned long long)a * PHILOX_FACTOR_0;
    unsigned long long second = (unsigned long long)c * PHILOX_FACTOR_1;
    a = (unsigned int)(second >> 32) ^ b ^ key;
    b = (unsigned int)second;
    c = (unsigned int)(first >> 32) ^ d ^ other;
    d = (unsigned int)first;
    key += PHILOX_STEP_0;
    other += PHILOX_STEP_1;
  }
  return Words{{a, b, c, d}};
}
