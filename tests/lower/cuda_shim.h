// Runs the source of kernels on a CPU: a fiber a thread, blocks one after another. What a device may
// do in any order is done in a random one: the order of blocks, and of threads between barriers, so
// that a missing barrier gives wrong results; and a thread stops now and then in the middle, where the
// bits of a number are taken, so that what two of them do to one place of shared memory does, too.
// Threads of a warp meet in shuffles and nowhere else. Says nothing about memory models or speed.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(n)

namespace shim {
struct Index { unsigned x, y, z; };
enum class State { ready, waiting, done };
struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  State state;
  Index thread;
};
inline ucontext_t scheduler;
inline Fiber* current;
inline Index block, block_size, grid_size;
inline const std::function<void()>* body;
inline std::mt19937* chance;  // where threads are fibers
constexpr size_t STACK = 1 << 16;
constexpr unsigned WARP = 32, MOST_THREADS = 1024;
constexpr int PATIENCE = 1 << 14;  // turns after which a thread of a warp will never come
struct Meeting { unsigned arrived, turn; };
inline Meeting meetings[MOST_THREADS / WARP];
inline unsigned char written_down[MOST_THREADS][8];

[[noreturn]] inline void die(const char* why) {
  std::fprintf(stderr, "shim: %s in block %u\n", why, block.x);
  std::abort();
}
inline void enter() {
  (*body)();
  current->state = State::done;
  swapcontext(&current->context, &scheduler);
}
inline void barrier() {
  current->state = State::waiting;
  swapcontext(&current->context, &scheduler);
}
inline void pause() {
  if (chance && (*chance)() % 8 == 0) swapcontext(&current->context, &scheduler);
}
inline void meet() {  // the threads of a warp wait for each other
  Meeting& own = meetings[current->thread.x / WARP];
  unsigned turn = own.turn;
  if (++own.arrived == WARP) {
    own.arrived = 0;
    ++own.turn;
    return;
  }
  for (int waited = 0; own.turn == turn; ++waited) {
    if (waited > PATIENCE) die("a shuffle is not reached by every thread of a warp");
    swapcontext(&current->context, &scheduler);
  }
}
template <class T> T of_thread(T x, unsigned lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "what a shuffle moves");
  unsigned me = current->thread.x, from = lane < WARP ? me / WARP * WARP + lane : me;
  std::memcpy(written_down[me], &x, sizeof x);
  meet();
  T found;
  std::memcpy(&found, written_down[from], sizeof found);
  meet();
  return found;
}
inline void run_block(std::vector<Fiber>& fibers, std::mt19937& random) {
  std::vector<size_t> order(fibers.size());
  std::iota(order.begin(), order.end(), 0);
  std::memset(meetings, 0, sizeof meetings);
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber& one = fibers[i];
    one.state = State::ready;
    one.thread = {(unsigned)i, 0, 0};
    one.stack.resize(STACK);
    getcontext(&one.context);
    one.context.uc_stack.ss_sp = one.stack.data();
    one.context.uc_stack.ss_size = STACK;
    one.context.uc_link = nullptr;
    makecontext(&one.context, enter, 0);
  }
  for (;;) {
    std::shuffle(order.begin(), order.end(), random);
    for (bool again = true; again;) {
      again = false;
      for (size_t i : order) {
        if (fibers[i].state != State::ready) continue;
        current = &fibers[i];
        swapcontext(&scheduler, &current->context);
        again |= fibers[i].state == State::ready;
      }
    }
    size_t done = 0;
    for (Fiber& one : fibers) done += one.state == State::done;
    if (done == fibers.size()) return;
    if (done) die("a barrier is not reached by every thread");
    for (Fiber& one : fibers) one.state = State::ready;
  }
}
inline void launch(unsigned blocks, unsigned threads, bool barriers, unsigned seed,
                   const std::function<void()>& kernel) {
  std::mt19937 random(seed);
  std::vector<unsigned> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), random);
  block_size = {threads, 1, 1};
  grid_size = {blocks, 1, 1};
  body = &kernel;
  std::vector<Fiber> fibers(barriers ? threads : 1);
  chance = barriers ? &random : nullptr;
  for (unsigned number : order) {
    block = {number, 0, 0};
    if (barriers) {
      run_block(fibers, random);
      continue;
    }
    current = &fibers[0];
    for (unsigned i = 0; i < threads; ++i) {
      current->thread = {i, 0, 0};
      kernel();
    }
  }
}
}  // namespace shim

#define threadIdx (shim::current->thread)
#define blockIdx (shim::block)
#define blockDim (shim::block_size)
#define gridDim (shim::grid_size)
static inline void __syncthreads() { shim::barrier(); }
static inline void __syncwarp() { shim::meet(); }
template <class T> static inline T __shfl_sync(unsigned, T x, int lane) {
  return shim::of_thread(x, (unsigned)lane);
}
template <class T> static inline T __shfl_down_sync(unsigned, T x, int by) {
  return shim::of_thread(x, shim::current->thread.x % shim::WARP + (unsigned)by);
}
template <class To, class From> static inline To shim_bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
static inline int __float_as_int(float x) {
  shim::pause();
  return shim_bits<int>(x);
}
static inline float __int_as_float(int x) {
  shim::pause();
  return shim_bits<float>(x);
}
static inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
