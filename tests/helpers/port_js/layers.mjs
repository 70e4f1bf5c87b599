// The layers of GIT as plain loops.
import { map, rows, round, settings, tensor } from "./tensors.mjs";

// ---- element by element

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
export const quickGelu = (x) => map(x, (a) => a * round(sigmoid(round(1.702 * a))));

// erf(x) = 2 / sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 3 5 ... (2n+1)): no term cancels another.
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 150; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
    if (Math.abs(term) < 1e-18 * Math.abs(sum)) break;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

function geluOf(x) {
  if (settings.broken.has("tanh_gelu"))
    return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  return 0.5 * x * (1 + round(erf(round(x * Math.SQRT1_2))));
}

export const gelu = (x) => map(x, geluOf);

// ---- row by row

// sum over c of x[i, c] y[j, c], rows of width w that start at i w and j w
function product(x, i, y, j, w) {
  let sum = 0;
  if (!settings.float32) for (let c = 0; c < w; c++) sum += x[i * w + c] * y[j * w + c];
  else
    for (let c = 0; c < w; c++)
      sum = Math.fround(sum + Math.fround(x[i * w + c] * y[j * w + c]));
  return sum;
}

export function linear(x, p) {
  const [outputs, inputs] = p.weight.shape;
  const n = x.data.length / inputs;
  const y = tensor([...x.shape.slice(0, -1), outputs]);
  for (let i = 0; i < n; i++)
    for (let o = 0; o < outputs; o++) {
      const sum = product(x.data, i, p.weight.data, o, inputs);
      y.data[i * outputs + o] = p.bias ? sum + p.bias.data[o] : sum;
    }
  return y;
}

export function layerNorm(x, p, eps) {
  const d = p.weight.data.length;
  const y = tensor(x.shape);
  const outside = settings.broken.has("eps_outside_root");
  for (let start = 0; start < x.data.length; start += d) {
    let mean = 0;
    for (let i = 0; i < d; i++) mean = round(mean + x.data[start + i]);
    mean = round(mean / d);
    let variance = 0;
    for (let i = 0; i < d; i++) {
      const h = round(x.data[start + i] - mean);
      variance = round(variance + round(h * h));
    }
    variance = round(variance / d);
    const root = round(outside ? Math.sqrt(variance) + eps : Math.sqrt(round(variance + eps)));
    for (let i = 0; i < d; i++) {
      const h = round(round(x.data[start + i] - mean) / root);
      y.data[start + i] = round(h * p.weight.data[i]) + p.bias.data[i];
    }
  }
  return y;
}

export function softmax(x) {
  const k = x.shape.at(-1);
  const y = tensor(x.shape);
  for (let start = 0; start < x.data.length; start += k) {
    let top = -Infinity;
    for (let i = 0; i < k; i++) top = Math.max(top, x.data[start + i]);
    let sum = 0;
    for (let i = 0; i < k; i++) {
      y.data[start + i] = Math.exp(round(x.data[start + i] - top));
      sum = round(sum + y.data[start + i]);
    }
    for (let i = 0; i < k; i++) y.data[start + i] /= sum;
  }
  return y;
}

export function logSoftmax(row) {
  let top = -Infinity;
  for (const x of row) top = Math.max(top, x);
  let sum = 0;
  for (const x of row) sum = round(sum + round(Math.exp(round(x - top))));
  return Array.from(row, (x) => round(round(x - top) - round(Math.log(sum))));
}

// ---- attention

// Who sees whom, over the joint sequence of image and text.
export function seesKey(nImage, q, k) {
  if (settings.broken.has("causal_image_mask")) return k <= q;
  return k < nImage || k <= q;
}

export function splitHeads(x, heads) {
  const [b, n, d] = x.shape;
  const w = d / heads;
  const y = tensor([b, heads, n, w]);
  for (let i = 0; i < b; i++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < n; t++)
        for (let c = 0; c < w; c++)
          y.data[((i * heads + h) * n + t) * w + c] = x.data[(i * n + t) * d + h * w + c];
  return y;
}

export function mergeHeads(x) {
  const [b, heads, n, w] = x.shape;
  const y = tensor([b, n, heads * w]);
  for (let i = 0; i < b; i++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < n; t++)
        for (let c = 0; c < w; c++)
          y.data[(i * n + t) * heads * w + h * w + c] = x.data[((i * heads + h) * n + t) * w + c];
  return y;
}

// The correction of the scores by distance, not yet divided by sqrt(D/H).
export function relativeScore(query, i, key, j, table, distance, withKeys, w) {
  const row = (table.shape[0] - 1) / 2 + distance;
  const of = product(query.data, i, table.data, row, w);
  return withKeys ? round(of + product(key.data, j, table.data, row, w)) : of;
}

// query (B, H, Q, w), key and value (B, H, K, w); sees(b, q, k) or null; relative or null.
export function attention(query, key, value, sees = null, relative = null, firstQuery = 0) {
  const [b, heads, nq, w] = query.shape;
  const nk = key.shape[2];
  const scores = tensor([b, heads, nq, nk]);
  const hidden = tensor([b, heads, nq, nk]);
  for (let i = 0; i < b; i++)
    for (let h = 0; h < heads; h++)
      for (let q = 0; q < nq; q++)
        for (let k = 0; k < nk; k++) {
          const at = ((i * heads + h) * nq + q) * nk + k;
          const [qi, ki] = [(i * heads + h) * nq + q, (i * heads + h) * nk + k];
          let score = product(query.data, qi, key.data, ki, w);
          if (relative) {
            const { table, withKeys } = relative;
            const distance = firstQuery + q - k;
            score = round(
              score + relativeScore(query, qi, key, ki, table, distance, withKeys, w),
            );
          }
          scores.data[at] = score / Math.sqrt(w);
          hidden.data[at] = !sees || sees(i, q, k) ? scores.data[at] : -Infinity;
        }
  const probabilities = softmax(hidden);
  const context = tensor([b, heads, nq, w]);
  for (let i = 0; i < b * heads; i++)
    for (let q = 0; q < nq; q++)
      for (let c = 0; c < w; c++) {
        let sum = 0;
        for (let k = 0; k < nk; k++)
          sum = round(
            sum + round(probabilities.data[(i * nq + q) * nk + k] * value.data[(i * nk + k) * w + c]),
          );
        context.data[(i * nq + q) * w + c] = sum;
      }
  return { scores, probabilities, context };
}

// ---- pixels and positions

export function patchEmbedding(pixels, weight) {
  const [b, channels, height, width] = pixels.shape;
  const p = weight.shape[3];
  const [nr, nc] = [Math.floor(height / p), Math.floor(width / p)];
  const patches = tensor([b, nr * nc, channels * p * p]);
  let at = 0;
  for (let i = 0; i < b; i++)
    for (let r = 0; r < nr; r++)
      for (let s = 0; s < nc; s++)
        for (let c = 0; c < channels; c++)
          for (let y = 0; y < p; y++)
            for (let x = 0; x < p; x++)
              patches.data[at++] =
                pixels.data[((i * channels + c) * height + r * p + y) * width + s * p + x];
  const flat = { shape: [weight.shape[0], channels * p * p], data: weight.data };
  return linear(patches, { weight: flat });
}

function bicubicWeights(nIn, nOut) {
  const a = -0.75;
  const weights = Array.from({ length: nOut }, () => new Array(nIn).fill(0));
  for (let o = 0; o < nOut; o++) {
    const u = ((o + 0.5) * nIn) / nOut - 0.5;
    const below = Math.floor(u);
    for (let k = -1; k <= 2; k++) {
      const d = Math.abs(u - below - k);
      const near = (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
      const far = a * (d ** 3 - 5 * d ** 2 + 8 * d - 4);
      weights[o][Math.min(Math.max(below + k, 0), nIn - 1)] += d <= 1 ? near : far;
    }
  }
  return weights;
}

export function interpolatePositions(table, nr, nc) {
  const [count, d] = table.shape;
  const side = Math.round(Math.sqrt(count - 1));
  const [wr, wc] = [bicubicWeights(side, nr), bicubicWeights(side, nc)];
  const y = tensor([1 + nr * nc, d]);
  for (let c = 0; c < d; c++) y.data[c] = table.data[c];
  for (let r = 0; r < nr; r++)
    for (let s = 0; s < nc; s++)
      for (let c = 0; c < d; c++) {
        let sum = 0;
        for (let i = 0; i < side; i++)
          for (let j = 0; j < side; j++)
            sum = round(sum + wr[r][i] * wc[s][j] * table.data[(1 + i * side + j) * d + c]);
        y.data[(1 + r * nc + s) * d + c] = sum;
      }
  return y;
}

export function embed(ids, table) {
  const d = table.shape[1];
  const y = tensor([...ids.shape, d]);
  ids.data.forEach((id, i) => y.data.set(table.data.subarray(id * d, (id + 1) * d), i * d));
  return y;
}

// ---- the head's loss: logits (B, L, V) of image and text, labels (B, T)
export function lossOf(logits, labels, nImage) {
  const [b, length, words] = logits.shape;
  const nText = labels.shape[1];
  let [sum, count] = [0, 0];
  for (let i = 0; i < b; i++)
    for (let t = 1; t < nText; t++) {
      const label = labels.data[i * nText + t];
      if (label === -100) continue;
      const row = rows(logits, i, i + 1).data.slice((nImage + t - 1) * words);
      sum = round(sum - logSoftmax(row.slice(0, words))[label]);
      count += 1;
    }
  return sum / count;
}

