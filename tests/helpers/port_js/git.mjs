// A port of GIT to JavaScript, to prove that the conformance kit needs no Python.
//
//     node git.mjs KIT_DIR RESULTS_DIR [--float32] [--break NAME] [--only LEVEL]
//
// Computes every case of the kit and writes a file for each into RESULTS_DIR.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { preprocess, readPng } from "./image.mjs";
import * as L from "./layers.mjs";
import * as M from "./model.mjs";
import { map, readSafetensors, rows, settings, tensor, writeSafetensors } from "./tensors.mjs";
import { detokenize, readVocabulary, tokenize } from "./tokenizer.mjs";

const [kitDir, resultsDir, ...flags] = process.argv.slice(2);
const option = (name) => (flags.includes(name) ? flags[flags.indexOf(name) + 1] : null);
settings.float32 = flags.includes("--float32");
if (option("--break")) settings.broken.add(option("--break"));
const only = option("--only");

const kit = JSON.parse(readFileSync(join(kitDir, "kit.json"), "utf8"));
const vocabulary = readVocabulary(join(kitDir, kit.vocabulary));
const models = new Map();

function modelOf(weights) {
  if (!models.has(weights.file)) {
    const p = M.nest(readSafetensors(join(kitDir, weights.file)));
    const config = JSON.parse(readFileSync(join(kitDir, weights.config), "utf8"));
    models.set(weights.file, { p, config });
  }
  return models.get(weights.file);
}

const scalar = (x) => tensor([], [x]);
const integers = (shape, data) => ({ shape, data, integers: true });

// Rows of ids as one tensor, filled with the padding token.
function padded(texts, pad) {
  const longest = Math.max(...texts.map((ids) => ids.length));
  const data = texts.flatMap((ids) => [...ids, ...new Array(longest - ids.length).fill(pad)]);
  return integers([texts.length, longest], data);
}

function promptsOf(given, a, images) {
  if (!given.input_ids) return Array.from({ length: images }, () => [a.bos_token_id]);
  const [b, t] = given.input_ids.shape;
  return Array.from({ length: b }, (_, i) => given.input_ids.data.slice(i * t, (i + 1) * t));
}

// operation -> (inputs, arguments, {p: weights below the prefix, model}) -> tensors
const operations = {
  quick_gelu: ({ x }) => ({ y: L.quickGelu(x) }),
  gelu: ({ x }) => ({ y: L.gelu(x) }),
  layer_norm: (given, { eps }) => ({ y: L.layerNorm(given.x, given, eps) }),
  linear: (given) => ({ y: L.linear(given.x, given) }),
  softmax: ({ x }) => ({ y: L.softmax(x) }),

  image_text_mask(_, { n_image, n_text }) {
    const n = n_image + n_text;
    const at = (i) => Number(L.seesKey(n_image, Math.floor(i / n), i % n));
    return { sees: integers([n, n], Array.from({ length: n * n }, (_, i) => at(i))) };
  },
  attention(given, { n_image }) {
    const sees = n_image === undefined ? null : M.maskOf(n_image, 0, given.text_mask);
    return L.attention(given.query, given.key, given.value, sees);
  },
  patch_embedding: ({ pixels, weight }) => ({ y: L.patchEmbedding(pixels, weight) }),
  interpolate_positions: ({ table }, a) => ({
    y: L.interpolatePositions(table, a.rows, a.columns),
  }),
  relative_scores({ query, key, table }, { with_keys }) {
    const [b, heads, n, w] = query.shape;
    const y = map(tensor([b, heads, n, n]), (_, at) => {
      const [k, q] = [at % n, Math.floor(at / n)];
      const head = Math.floor(q / n);
      const r = L.relativeScore(query, q, key, head * n + k, table, (q % n) - k, with_keys, w);
      return r / Math.sqrt(w);
    });
    return { y };
  },
  head_and_loss(given, { n_image }) {
    const logits = L.linear(given.x, given);
    return { logits, loss: scalar(L.lossOf(logits, given.labels, n_image)) };
  },

  text_embedding: (given, { eps }, { p }) => ({
    y: M.textEmbedding(given.input_ids, given.position_ids, p, eps),
  }),
  image_embedding: ({ pixel_values }, _, { p }) => ({ y: M.imageEmbedding(pixel_values, p) }),
  string_frames: ({ frames }, _, { p }) => ({ y: M.stringFrames(frames, p) }),
  vision_block({ x }, { num_heads, eps }, { p }) {
    const seen = {};
    return { y: M.visionBlock(x, p, num_heads, eps, seen), ...seen };
  },
  decoder_block({ x, text_mask }, { n_image }, { p, model }) {
    const seen = {};
    const sees = M.maskOf(n_image, 0, text_mask);
    return { y: M.decoderBlock(x, p, model.config, sees, {}, seen), ...seen };
  },
  vision({ pixel_values }, _, { p, model }) {
    const seen = {};
    const vision = model.config.vision_config;
    const tokens = M.imageEncoder(pixel_values, p, vision, seen);
    return { ...seen, tokens, y: M.projection(tokens, p, vision.layer_norm_eps) };
  },
  decoder({ x }, { n_image }, { p, model }) {
    const states = [];
    const y = M.decode(x, p, model.config, M.maskOf(n_image, 0), [], states);
    return { y, "layer.0": states[0], "layer.1": states[1] };
  },
  model(given, _, { model }) {
    const state = M.newState(M.imageTokens(given.pixel_values, model));
    const logits = M.read(
      model, state, given.input_ids, given.position_ids, given.attention_mask);
    if (!given.labels) return { logits };
    return { logits, loss: scalar(L.lossOf(logits, given.labels, 0)) };
  },

  decode_steps(given, { prompt_length, steps }, { model }) {
    const state = M.newState(M.imageTokens(given.pixel_values, model));
    const part = (x, start, stop) => x && {
      shape: [x.shape[0], stop - start],
      data: x.data.filter((_, i) => i % x.shape[1] >= start && i % x.shape[1] < stop),
    };
    const found = {};
    for (let step = 0; step <= steps; step++) {
      const [start, stop] = [step ? prompt_length + step - 1 : 0, prompt_length + step];
      const ids = part(given.input_ids, start, stop);
      const places = part(given.position_ids, start, stop);
      const logits = M.read(model, state, ids, places, part(given.attention_mask, 0, stop));
      const [b, t, words] = logits.shape;
      const last = Array.from({ length: b }, (_, i) => rows(logits, i, i + 1).data.slice(-words));
      found[`step.${step}.logits`] = tensor([b, words], last.flatMap((row) => [...row]));
    }
    return found;
  },
  greedy(given, a, { model }) {
    const image = M.imageTokens(given.pixel_values, model);
    const texts = promptsOf(given, a, image.shape[0]).map((prompt, i) =>
      M.greedy(model, rows(image, i, i + 1), prompt, a),
    );
    return { sequences: padded(texts, a.pad_token_id) };
  },
  beam(given, a, { model }) {
    const image = M.imageTokens(given.pixel_values, model);
    const texts = promptsOf(given, a, image.shape[0]).flatMap((prompt, i) =>
      M.beamSearch(model, rows(image, i, i + 1), prompt, a),
    );
    const scores = texts.map((text) => text.score);
    return {
      sequences: padded(texts.map((text) => text.ids), a.pad_token_id),
      sequences_scores: tensor([texts.length], scores),
    };
  },

  preprocess(given, a, { pictures }) {
    const images = pictures.map((path) => readPng(join(kitDir, path)));
    const [height, width] = (given.image ?? given.frames).shape.slice(-3);
    const raw = (given.image ?? given.frames).data;
    const size = height * width * 3;
    images.forEach((image, i) => {
      const same = image.data.every((value, j) => value === raw[i * size + j]);
      if (!same) throw new Error(`${pictures[i]} is not the raw picture`);
    });
    const found = images.map((image) => preprocess(image, a));
    if (given.image) return { pixel_values: found[0] };
    const data = found.flatMap((x) => [...x.data]);
    return { pixel_values: tensor([1, found.length, ...found[0].shape.slice(1)], data) };
  },
  tokenize: ({ texts }, options) => tokenize(texts, options, vocabulary),
  detokenize: ({ ids }, options) => ({ texts: detokenize(ids, options, vocabulary) }),
};

mkdirSync(resultsDir, { recursive: true });
for (const entry of kit.cases) {
  if (only && entry.level !== only) continue;
  const path = join(kitDir, entry.inputs);
  const isJson = entry.inputs.endsWith(".json");
  const given = isJson ? JSON.parse(readFileSync(path, "utf8")) : readSafetensors(path);
  const context = { pictures: entry.pictures };
  if (entry.weights) {
    context.model = modelOf(entry.weights);
    context.p = M.below(context.model.p, entry.weights.prefix);
  }
  const found = operations[entry.operation](given, entry.arguments, context);
  const out = join(resultsDir, entry.id);
  if (isJson) writeFileSync(`${out}.json`, JSON.stringify(found));
  else writeSafetensors(`${out}.safetensors`, found);
}
