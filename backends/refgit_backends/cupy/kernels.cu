// The GPU kernels. Plain CUDA C++ without a header, so that NVRTC compiles it by itself, and so that
// gcc does for the tests. `number` is what arrays hold, `wide` what is computed in: float for float16
// and float32, double for float64. launch.py puts one line in front, which defines the dtype.

#ifdef DTYPE_float16
struct number { unsigned short bits; };
typedef float wide;
#ifdef __CUDACC__
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
__device__ __forceinline__ unsigned short float_to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#endif
__device__ __forceinline__ wide load(number x) { return half_to_float(x.bits); }
__device__ __forceinline__ number store(wide x) {
    number y;
    y.bits = float_to_half(x);
    return y;
}
#else
#ifdef DTYPE_float64
typedef double number;
typedef double wide;
#else
typedef float number;
typedef float wide;
#endif
__device__ __forceinline__ wide load(number x) { return x; }
__device__ __forceinline__ number store(wide x) { return x; }
#endif

#define THREADS 128  // of a block; four warps of 32
#define WARPS (THREADS / 32)
#define MAX_KEYS 4096  // that `attend` has room for in shared memory
#define MINUS_INFINITY (-(wide)__int_as_float(0x7f800000))

__device__ __forceinline__ wide larger(wide a, wide b) { return a < b ? b : a; }

// The sum of x over the 32 threads of a warp, in each of them.
__device__ __forceinline__ wide warp_sum(wide x) {
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__device__ __forceinline__ wide warp_max(wide x) {
    for (int lane = 16; lane > 0; lane /= 2)
        x = larger(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

// The sum of x over all threads of a block, in each of them, always in the same order.
__device__ wide block_sum(wide x) {
    __shared__ wide parts[WARPS];
    x = warp_sum(x);
    __syncthreads();  // someone may still read the parts of the sum before
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
    for (int i = 1; i < WARPS; i++) x += parts[i];
    return x;
}

__device__ wide block_max(wide x) {
    __shared__ wide parts[WARPS];
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
    for (int i = 1; i < WARPS; i++) x = larger(x, parts[i]);
    return x;
}

// x and y may be one array. A bias that is null is not added.
__device__ __forceinline__ wide quick_gelu_of(wide x) {
    return x / ((wide)1 + exp((wide)-1.702 * x));  // x / inf is the 0 that is meant
}

// x Phi(x) = x / 2 erfc(-x / sqrt 2): of a negative x it keeps the digits that 1 + erf loses.
__device__ __forceinline__ wide gelu_of(wide x) {
    return (wide)0.5 * x * erfc(x * (wide)-0.70710678118654752);
}

#define ACTIVATION(NAME)                                                                    \
    for (long long row = blockIdx.x; row < rows; row += gridDim.x)                          \
        for (long long i = blockIdx.y * (long long)THREADS + threadIdx.x; i < width;        \
             i += gridDim.y * (long long)THREADS) {                                         \
            wide h = load(x[row * width + i]);                                              \
            if (bias) h += load(bias[i]);                                                   \
            y[row * width + i] = store(NAME(h));                                            \
        }

extern "C" __global__ void quick_gelu(
    number* y, const number* x, const number* bias, long long rows, long long width)
{
    ACTIVATION(quick_gelu_of)
}

extern "C" __global__ void gelu(
    number* y, const number* x, const number* bias, long long rows, long long width)
{
    ACTIVATION(gelu_of)
}

// One block for each row: mean, then variance of what is left, then the row.
extern "C" __global__ void layer_norm(
    number* y, const number* x, const number* weight, const number* bias,
    long long rows, int width, double eps)
{
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const number* from = x + row * width;
        wide sum = 0;
        for (int i = threadIdx.x; i < width; i += THREADS) sum += load(from[i]);
        const wide mean = block_sum(sum) / width;
        wide squares = 0;
        for (int i = threadIdx.x; i < width; i += THREADS) {
            const wide h = load(from[i]) - mean;
            squares += h * h;
        }
        const wide deviation = sqrt(block_sum(squares) / width + (wide)eps);
        for (int i = threadIdx.x; i < width; i += THREADS) {
            const wide h = (load(from[i]) - mean) / deviation;
            y[row * width + i] = store(h * load(weight[i]) + load(bias[i]));
        }
    }
}

// One block for each row of scores (B, H, Q, K); the bias, if any, is (1 or B, 1, Q, K).
extern "C" __global__ void softmax(
    number* y, const number* x, const number* bias,
    long long rows, int width, int heads, int queries, int bias_rows)
{
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const number* from = x + row * width;
        const long long b = row / ((long long)heads * queries) % bias_rows;
        const number* shift = bias ? bias + (b * queries + row % queries) * width : bias;
        wide peak = MINUS_INFINITY;
        for (int i = threadIdx.x; i < width; i += THREADS)
            peak = larger(peak, load(from[i]) + (shift ? load(shift[i]) : (wide)0));
        peak = block_max(peak);
        wide sum = 0;
        for (int i = threadIdx.x; i < width; i += THREADS)
            sum += exp(load(from[i]) + (shift ? load(shift[i]) : (wide)0) - peak);
        sum = block_sum(sum);
        for (int i = threadIdx.x; i < width; i += THREADS) {
            const wide h = load(from[i]) + (shift ? load(shift[i]) : (wide)0);
            y[row * width + i] = store(exp(h - peak) / sum);
        }
    }
}

// For few queries, where starting kernels would take longer than computing.
// One block for each query of each head of each text: m softmax(q K / sqrt d + b) V over two
// segments of keys and values, (rows, H, keys, d) with any strides but the last; text b looks at
// row b % rows. The context is (B, Q, H, d).
extern "C" __global__ void attend(
    number* context, const number* query, const number* bias, const number* head_mask,
    const number* key0, const number* value0, const number* key1, const number* value1,
    long long query_batch, long long query_head, long long query_token,
    long long batch0, long long head0, long long token0,
    long long batch1, long long head1, long long token1,
    int rows0, int keys0, int rows1, int keys1,
    int heads, int queries, int width, int bias_rows, double scale)
{
    __shared__ wide weights[MAX_KEYS];
    __shared__ wide parts[THREADS];
    const int q = blockIdx.x % queries;
    const int h = blockIdx.x / queries % heads;
    const long long b = blockIdx.x / queries / heads;
    const int keys = keys0 + keys1;
    const long long start0 = b % rows0 * batch0 + h * head0;
    const long long start1 = b % rows1 * batch1 + h * head1;
    const number* asked = query + b * query_batch + h * query_head + q * query_token;
    const number* shift = bias ? bias + (b % bias_rows * queries + q) * keys : bias;

    // scores: a warp takes a key, its threads lie side by side along the channels
    for (int k = threadIdx.x / 32; k < keys; k += WARPS) {
        const number* key = k < keys0 ? key0 + start0 + k * token0
                                      : key1 + start1 + (k - keys0) * token1;
        wide score = 0;
        for (int i = threadIdx.x % 32; i < width; i += 32) score += load(asked[i]) * load(key[i]);
        score = warp_sum(score) * (wide)scale;
        if (threadIdx.x % 32 == 0) weights[k] = score + (shift ? load(shift[k]) : (wide)0);
    }
    __syncthreads();

    wide peak = MINUS_INFINITY;
    for (int k = threadIdx.x; k < keys; k += THREADS) peak = larger(peak, weights[k]);
    peak = block_max(peak);
    wide sum = 0;
    for (int k = threadIdx.x; k < keys; k += THREADS) {
        weights[k] = exp(weights[k] - peak);
        sum += weights[k];
    }
    const wide share = (head_mask ? load(head_mask[h]) : (wide)1) / block_sum(sum);

    // values: threads lie side by side along the channels, and groups of them share the keys out
    for (int first = 0; first < width; first += THREADS) {
        const int channels = width - first < THREADS ? width - first : THREADS;
        const int groups = THREADS / channels;
        const int c = threadIdx.x % channels;
        const int group = threadIdx.x / channels;
        wide part = 0;
        for (int k = group; group < groups && k < keys; k += groups) {
            const number* value = k < keys0 ? value0 + start0 + k * token0
                                            : value1 + start1 + (k - keys0) * token1;
            part += weights[k] * load(value[first + c]);
        }
        __syncthreads();  // someone may still read the parts of the channels before
        parts[threadIdx.x] = part;
        __syncthreads();
        if (group == 0) {
            for (int g = 1; g < groups; g++) part += parts[g * channels + c];
            context[((b * queries + q) * heads + h) * width + first + c] = store(part * share);
        }
    }
}
