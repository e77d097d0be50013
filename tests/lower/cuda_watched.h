// Indices that tell how far they went: `Index` is `Watched` instead of int or long long. As with int,
// what is computed with a number of 64 bits is one, and no index any more.
#pragma once
#include <type_traits>

extern "C" {
inline long long furthest = 0;  // the largest distance from 0 of any index so far
long long* watched() { return &furthest; }
}

struct Watched {
  long long number;
  Watched() = default;
  template <class T, class = std::enable_if_t<std::is_integral<T>::value>>
  Watched(T x) : number((long long)x) {
    long long distance = number < 0 ? -number : number;
    if (distance > furthest) furthest = distance;
  }
  operator long long() const { return number; }
  template <class T> Watched& operator+=(T other) { return *this = *this + other; }
};
template <class T> using Beside = std::conditional_t<sizeof(T) == 8, long long, Watched>;
template <class T> using Integral = std::enable_if_t<std::is_integral<T>::value, Beside<T>>;

#define WATCHED(symbol)                                                                          \
  inline Watched operator symbol(Watched a, Watched b) { return a.number symbol b.number; }      \
  template <class T> Integral<T> operator symbol(Watched a, T b) {                               \
    return a.number symbol (long long)b;                                                         \
  }                                                                                              \
  template <class T> Integral<T> operator symbol(T a, Watched b) {                               \
    return (long long)a symbol b.number;                                                         \
  }
WATCHED(+)
WATCHED(-)
WATCHED(*)
WATCHED(/)
WATCHED(%)
#undef WATCHED
