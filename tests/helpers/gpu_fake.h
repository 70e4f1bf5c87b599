// CUDA on a CPU, as far as refgit's kernels need it, for the tests.
//
// The threads of a block are fibers: each runs until it waits, then the next one goes on. A barrier
// opens when all threads of the block (or of the warp, for a shuffle) stand at it; threads that wait
// for others which have ended are reported, as CUDA leaves undefined what happens then. Each warp
// runs as far ahead of the others as it can, the first or, reversed, the last before all others: so
// a missing barrier shows as a difference. Shared memory is full of NaN when a block begins; it is
// volatile because the compiler cannot know that a fiber that waits lets others write there.

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <ucontext.h>

#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static volatile __attribute__((section("shared_memory")))

extern "C" char __start_shared_memory[], __stop_shared_memory[];

using std::erfc;
using std::exp;
using std::sqrt;

struct Index { unsigned x, y, z; };
Index threadIdx, blockIdx, blockDim, gridDim;

enum State { READY, AT_BLOCK, AT_WARP, DONE };
static const int MOST = 1024;
static char stacks[MOST][1 << 16];
static ucontext_t contexts[MOST], home_context;
static jmp_buf fibers[MOST], home;
static int made = 0;
State state[MOST];
int current = 0;
char exchanged[MOST][8];
static std::function<void()> body;

static void wait_at(State where) {
    state[current] = where;
    if (!_setjmp(fibers[current])) _longjmp(home, 1);
}

static void live() {
    for (;;) {
        body();
        wait_at(DONE);
    }
}

static void go_on(int i) {
    current = i;
    threadIdx = {(unsigned)i, 0, 0};
    if (_setjmp(home)) return;
    if (i < made) _longjmp(fibers[i], 1);
    made = i + 1;
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = stacks[i];
    contexts[i].uc_stack.ss_size = sizeof stacks[i];
    contexts[i].uc_link = &home_context;
    makecontext(&contexts[i], live, 0);
    setcontext(&contexts[i]);
}

void __syncthreads() { wait_at(AT_BLOCK); }

template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane) {
    T other;
    memcpy(exchanged[current], &value, sizeof value);
    wait_at(AT_WARP);
    memcpy(&other, exchanged[current ^ lane], sizeof other);
    wait_at(AT_WARP);
    return other;
}

// Let those go on from `first` to `last` who all stand at `where`.
static bool opened(int first, int last, State where) {
    for (int i = first; i < last; i++)
        if (state[i] != where) return false;
    for (int i = first; i < last; i++) state[i] = READY;
    return true;
}

static bool all_done(int threads) {
    for (int i = 0; i < threads; i++)
        if (state[i] != DONE) return false;
    return true;
}

// Let the threads of a warp run until none of them can go on without another warp.
static bool run_warp(int first, int threads, int reverse) {
    bool moved = false;
    do {
        for (int n = 0; n < 32; n++) {
            // a fiber is made by its first run, and those are made in order
            int i = first + (reverse && made >= threads ? 31 - n : n);
            if (state[i] != READY) continue;
            go_on(i);
            moved = true;
        }
    } while (opened(first, first + 32, AT_WARP));
    return moved;
}

static int run_block(int threads, int reverse) {
    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    for (int i = 0; i < threads; i++) state[i] = READY;
    for (;;) {
        bool moved = false;
        for (int n = 0; n < threads; n += 32)
            moved |= run_warp(reverse && made >= threads ? threads - 32 - n : n, threads, reverse);
        if (all_done(threads)) return 0;
        if (!opened(0, threads, AT_BLOCK) && !moved) return 1;
    }
}

static int run_grid(unsigned x, unsigned y, int threads, int reverse, std::function<void()> f) {
    body = f;
    gridDim = {x, y, 1};
    blockDim = {(unsigned)threads, 1, 1};
    for (unsigned j = 0; j < y; j++)
        for (unsigned i = 0; i < x; i++) {
            blockIdx = {i, j, 0};
            if (run_block(threads, reverse)) {
                made = 0;
                return 1;
            }
        }
    return 0;
}

float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

extern "C" float half_to_float(unsigned short bits) {
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float x = exponent == 31 ? (mantissa ? NAN : INFINITY)
            : exponent       ? std::ldexp(1.0f + mantissa / 1024.0f, exponent - 15)
                             : std::ldexp(mantissa / 1024.0f, -14);
    return bits >> 15 ? -x : x;
}

// To the nearest, ties to even.
extern "C" unsigned short float_to_half(float x) {
    unsigned short sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return sign | 0x7e00;
    double size = std::fabs((double)x);
    if (size >= 65520.0) return sign | 0x7c00;
    int exponent = size < 0x1p-14 ? -14 : std::ilogb(size);
    int steps = (int)std::nearbyint(std::ldexp(size, 10 - exponent));  // of the last place
    return sign | (unsigned short)(steps + ((exponent + 14) << 10));
}
