// GIT: image encoder, text decoder with a cache, greedy and beam search.
import * as L from "./layers.mjs";
import { add, columns, map, reshaped, rows, round, settings, tensor } from "./tensors.mjs";

// Weights {"git.encoder.layer.0....weight": tensor} -> nested objects, as the names say.
export function nest(weights) {
  const tree = {};
  for (const [name, x] of Object.entries(weights)) {
    const path = name.split(".");
    const leaf = path.pop();
    let node = tree;
    for (const branch of path) node = node[branch] ??= {};
    node[leaf] = x;
  }
  return tree;
}

// The nested weights below a prefix such as "git.encoder.".
export const below = (tree, prefix) =>
  prefix.split(".").filter(Boolean).reduce((node, name) => node[name], tree);

// ---- image encoder

export function imageEmbedding(pixels, p) {
  const [b, , height, width] = pixels.shape;
  const patches = L.patchEmbedding(pixels, p.patch_embedding.weight);
  const [, n, d] = patches.shape;
  const side = p.patch_embedding.weight.shape[3];
  const [nr, nc] = [Math.floor(height / side), Math.floor(width / side)];
  let table = p.position_embedding.weight;
  if (nr !== nc || nr * nc + 1 !== table.shape[0]) table = L.interpolatePositions(table, nr, nc);
  const x = tensor([b, n + 1, d]);
  for (let i = 0; i < b; i++) {
    x.data.set(p.class_embedding.data, i * (n + 1) * d);
    x.data.set(patches.data.subarray(i * n * d, (i + 1) * n * d), (i * (n + 1) + 1) * d);
  }
  return map(x, (a, i) => a + table.data[i % table.data.length]);
}

export function visionBlock(x, p, heads, eps, seen = {}) {
  const h = (seen.layer_norm1 = L.layerNorm(x, p.layer_norm1, eps));
  const [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(
    (name) => (seen[`self_attn.${name}`] = L.linear(h, p.self_attn[name])),
  );
  const split = [q, k, v].map((y) => L.splitHeads(y, heads));
  const found = L.attention(...split);
  seen["self_attn.scores"] = found.scores;
  seen["self_attn.probabilities"] = found.probabilities;
  const context = (seen["self_attn.context"] = L.mergeHeads(found.context));
  const out = (seen["self_attn.out_proj"] = L.linear(context, p.self_attn.out_proj));
  x = seen["self_attn.residual"] = settings.broken.has("no_residual") ? out : add(x, out);
  const g = (seen.layer_norm2 = L.layerNorm(x, p.layer_norm2, eps));
  const wide = (seen["mlp.fc1"] = L.linear(g, p.mlp.fc1));
  const act = (seen["mlp.activation_fn"] = L.quickGelu(wide));
  return add(x, (seen["mlp.fc2"] = L.linear(act, p.mlp.fc2)));
}

export function imageEncoder(pixels, git, vision, seen = {}) {
  const p = git.image_encoder.vision_model;
  const eps = vision.layer_norm_eps;
  let x = (seen.embeddings = imageEmbedding(pixels, p.embeddings));
  x = seen.pre_layrnorm = L.layerNorm(x, p.pre_layrnorm, eps);
  for (let i = 0; i < vision.num_hidden_layers; i++)
    x = seen[`encoder.layers.${i}`] = visionBlock(
      x, p.encoder.layers[i], vision.num_attention_heads, eps);
  return L.layerNorm(x, p.post_layernorm, eps);
}

export const projection = (tokens, git, eps) => {
  const p = git.visual_projection.visual_projection;
  return L.layerNorm(L.linear(tokens, p[0]), p[1], eps);
};

// Tokens (B, F, N, D) and the vectors of the frames' times -> (B, F N, D).
export function stringFrames(x, times) {
  const [b, f, n, d] = x.shape;
  const y = map(x, (a, i) => a + times[Math.floor(i / (n * d)) % f].data[i % d]);
  return reshaped(y, [b, f * n, d]);
}

// Pixels (B, 3, H, W), or (B, F, 3, H, W) of videos -> the decoder's image tokens (B, N, D).
export function imageTokens(pixels, model) {
  const { git } = model.p;
  const vision = model.config.vision_config;
  const [b, f] = pixels.shape;
  const video = pixels.shape.length === 5;
  const frames = video ? reshaped(pixels, [b * f, ...pixels.shape.slice(2)]) : pixels;
  let x = imageEncoder(frames, git, vision);
  if (video) {
    const times = git.img_temperal_embedding;
    x = stringFrames(reshaped(x, [b, f, ...x.shape.slice(1)]), times);
  }
  return projection(x, git, vision.layer_norm_eps);
}

// ---- text decoder

export function textEmbedding(ids, places, p, eps, relative = false) {
  let x = L.embed(ids, p.word_embeddings.weight);
  if (!relative) x = add(x, L.embed(places, p.position_embeddings.weight));
  return L.layerNorm(x, p.LayerNorm, eps);
}

// x (B, Q, D) on top of `past`, which takes its keys and values up; sees(b, q, k) counts q from the
// first of the new tokens.
export function decoderBlock(x, p, config, sees, past = {}, seen = {}) {
  const self = p.attention.self;
  const [q, k, v] = ["query", "key", "value"].map(
    (name) => (seen[`attention.self.${name}`] = L.linear(x, self[name])),
  );
  past.key = past.key ? joined(past.key, k) : k;
  past.value = past.value ? joined(past.value, v) : v;
  const heads = config.num_attention_heads;
  const split = [q, past.key, past.value].map((y) => L.splitHeads(y, heads));
  const kind = config.position_embedding_type;
  const relative = kind.startsWith("relative") && {
    table: self.distance_embedding.weight,
    withKeys: kind === "relative_key_query",
  };
  const found = L.attention(...split, sees, relative, past.key.shape[1] - x.shape[1]);
  seen["attention.self.scores"] = found.scores;
  seen["attention.self.probabilities"] = found.probabilities;
  const context = (seen["attention.self.context"] = L.mergeHeads(found.context));
  const out = (seen["attention.output.dense"] = L.linear(context, p.attention.output.dense));
  const eps = config.layer_norm_eps;
  const mid = (seen["attention.output.residual"] = add(x, out));
  x = seen["attention.output.LayerNorm"] = L.layerNorm(mid, p.attention.output.LayerNorm, eps);
  const wide = (seen["intermediate.dense"] = L.linear(x, p.intermediate.dense));
  const act = (seen["intermediate.intermediate_act_fn"] = L.gelu(wide));
  const end = add(x, (seen["output.dense"] = L.linear(act, p.output.dense)));
  seen["output.residual"] = end;
  return L.layerNorm(end, p.output.LayerNorm, eps);
}

// Image b modulo the images in front of text b: (B', N, D), (B, T, D) -> (B, N + T, D).
export function joinImageAndText(image, text) {
  const b = text.shape[0];
  const order = settings.broken.has("images_repeated")
    ? (i) => Math.floor((i * image.shape[0]) / b)
    : (i) => i % image.shape[0];
  const tiled = tensor([b, ...image.shape.slice(1)]);
  const size = tiled.data.length / b;
  for (let i = 0; i < b; i++) tiled.data.set(rows(image, order(i), order(i) + 1).data, i * size);
  return joined(tiled, text);
}

// Side by side along the tokens: (B, M, D), (B, N, D) -> (B, M + N, D).
function joined(x, y) {
  const [b, m, d] = x.shape;
  const n = y.shape[1];
  const z = tensor([b, m + n, d]);
  for (let i = 0; i < b; i++) {
    z.data.set(x.data.slice(i * m * d, (i + 1) * m * d), i * (m + n) * d);
    z.data.set(y.data.slice(i * n * d, (i + 1) * n * d), (i * (m + n) + m) * d);
  }
  return z;
}

// sees(b, q, k) for new tokens that begin at `first`; mask (B, T) is 0 at padding.
export const maskOf = (nImage, first, mask = null) => (b, q, k) =>
  L.seesKey(nImage, first + q, k) &&
  (!mask || k < nImage || mask.data[b * mask.shape[1] + k - nImage] !== 0);

export function decode(x, p, config, sees, caches = [], states = []) {
  for (let i = 0; i < config.num_hidden_layers; i++) {
    caches[i] ??= {};
    x = decoderBlock(x, p.layer[i], config, sees, caches[i]);
    states.push(x);
  }
  return x;
}

// ---- the whole model

// A state of reading: what the cache holds, and how much of it is image.
export const newState = (image) => ({ image, nImage: image.shape[1], length: 0, caches: [] });
export const copyOf = (state) => ({ ...state, caches: state.caches.map((c) => ({ ...c })) });

// Read ids (B, T) below the image, or on top of what was read; returns the logits (B, T, V).
export function read(model, state, ids, places = null, mask = null) {
  const { git, output } = model.p;
  const { config } = model;
  const [b, t] = ids.shape;
  const start = state.length - (state.length ? state.nImage : 0); // text tokens read so far
  const shift = settings.broken.has("positions_count_image") && start ? state.nImage : 0;
  places ??= { shape: [b, t], data: Array.from({ length: b * t }, (_, i) => start + (i % t)) };
  places = { ...places, data: places.data.map((n) => n + shift) };
  const relative = config.position_embedding_type !== "absolute";
  let x = textEmbedding(ids, places, git.embeddings, config.layer_norm_eps, relative);
  if (state.length === 0) x = joinImageAndText(state.image, x);
  const sees = maskOf(state.nImage, state.length, mask);
  const hidden = decode(x, git.encoder, config, sees, state.caches);
  state.length += x.shape[1];
  return L.linear(columns(hidden, x.shape[1] - t, x.shape[1]), output);
}

const wordsOf = (logits) => {
  const words = logits.shape[2];
  return logits.data.slice(-words);
};

const one = (ids) => ({ shape: [1, ids.length], data: ids });

const argmax = (row) => row.reduce((best, x, i) => (x > row[best] ? i : best), 0);

export function greedy(model, image, prompt, { max_length, eos_token_id }) {
  const ids = [...prompt];
  const state = newState(image);
  let logits = wordsOf(read(model, state, one(ids)));
  while (ids.length < max_length) {
    ids.push(argmax(logits));
    if (ids.at(-1) === eos_token_id) break;
    if (ids.length < max_length) logits = wordsOf(read(model, state, one(ids.slice(-1))));
  }
  return ids;
}

// The num_return_sequences best texts, with their scores.
export function beamSearch(model, image, prompt, options) {
  const { num_beams: k, max_length, eos_token_id, length_penalty } = options;
  const state = newState(image);
  const first = L.logSoftmax(wordsOf(read(model, state, one(prompt))));
  let beams = [{ ids: [...prompt], sum: 0, state, next: first }];
  let kept = [];
  for (;;) {
    const all = beams.flatMap((beam) =>
      beam.next.map((score, word) => ({ beam, word, sum: round(beam.sum + score) })),
    );
    const best = all.sort((a, b) => b.sum - a.sum).slice(0, 2 * k);
    const n = best[0].beam.ids.length + 1 - prompt.length;
    const over = (sum) => sum / n ** length_penalty;
    const ends = ({ beam, word }) => word === eos_token_id || beam.ids.length + 1 === max_length;
    const ended = best.slice(0, k).filter(ends);
    kept.push(...ended.map((c) => ({ ids: [...c.beam.ids, c.word], score: over(c.sum) })));
    kept = kept.sort((a, b) => b.score - a.score).slice(0, k);
    const going = best.filter((c) => !ends(c)).slice(0, k);
    if (!going.length || (kept.length === k && over(going[0].sum) <= kept.at(-1).score)) break;
    beams = going.map(({ beam, word, sum }) => {
      const copy = copyOf(beam.state);
      const next = L.logSoftmax(wordsOf(read(model, copy, one([word]))));
      return { ids: [...beam.ids, word], sum, state: copy, next };
    });
  }
  return kept.slice(0, options.num_return_sequences);
}
