// Preprocessing: PNG files, resizing as Pillow does it, crop, and normalisation.
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { round, settings, tensor } from "./tensors.mjs";

// An image is {height, width, data}: rows of red, green, blue bytes.

export function readPng(path) {
  const file = readFileSync(path);
  const parts = [];
  let [header, palette] = [null, null];
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at);
    const kind = file.toString("latin1", at + 4, at + 8);
    const body = file.subarray(at + 8, at + 8 + length);
    if (kind === "IHDR") header = body;
    if (kind === "PLTE") palette = body;
    if (kind === "IDAT") parts.push(body);
    at += 12 + length;
  }
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const channels = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[header[9]];
  if (header[8] !== 8 || header[12] !== 0) throw new Error(`${path}: only 8 bits, not interlaced`);
  const raw = unfiltered(inflateSync(Buffer.concat(parts)), width * channels, height, channels);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 3; c++) {
      const value = raw[i * channels + (channels >= 3 ? c : 0)];
      data[i * 3 + c] = palette ? palette[value * 3 + c] : value;
    }
  return { height, width, data };
}

function unfiltered(bytes, stride, height, step) {
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = bytes[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x;
      const left = x >= step ? out[at - step] : 0;
      const up = y ? out[at - stride] : 0;
      const corner = y && x >= step ? out[at - stride - step] : 0;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      out[at] = bytes[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return out;
}

function paeth(left, up, corner) {
  const p = left + up - corner;
  const [a, b, c] = [left, up, corner].map((x) => Math.abs(p - x));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

// ---- resizing

function filterOf(resample) {
  if (resample === 2) return { reach: 1, f: (d) => Math.max(0, 1 - d) };
  const f = (d) => {
    if (d < 1) return 1.5 * d ** 3 - 2.5 * d ** 2 + 1;
    return d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
  };
  return { reach: 2, f };
}

// For each output pixel: the first input pixel, and weights as whole numbers of 22 bits.
function weightsOf(nIn, nOut, resample) {
  const { reach, f } = filterOf(resample);
  const scale = nIn / nOut;
  const wide = settings.broken.has("no_antialias") ? 1 : Math.max(scale, 1);
  return Array.from({ length: nOut }, (_, o) => {
    const centre = (o + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * wide + 0.5));
    const stop = Math.min(nIn, Math.trunc(centre + reach * wide + 0.5));
    const row = [];
    for (let i = first; i < stop; i++) row.push(f(Math.abs(i + 0.5 - centre) / wide));
    const sum = row.reduce((a, b) => a + b, 0);
    return { first, row: row.map((w) => Math.sign(w) * Math.floor(Math.abs(w / sum) * 2 ** 22 + 0.5)) };
  });
}

const byte = (sum) => Math.min(255, Math.max(0, Math.floor((sum + 2 ** 21) / 2 ** 22)));

export function resize({ height, width, data }, newHeight, newWidth, resample) {
  const across = new Uint8Array(height * newWidth * 3);
  weightsOf(width, newWidth, resample).forEach(({ first, row }, x) => {
    for (let y = 0; y < height; y++)
      for (let c = 0; c < 3; c++) {
        const sum = row.reduce((s, w, i) => s + w * data[(y * width + first + i) * 3 + c], 0);
        across[(y * newWidth + x) * 3 + c] = byte(sum);
      }
  });
  const out = new Uint8Array(newHeight * newWidth * 3);
  weightsOf(height, newHeight, resample).forEach(({ first, row }, y) => {
    for (let i = 0; i < newWidth * 3; i++) {
      const sum = row.reduce((s, w, j) => s + w * across[(first + j) * newWidth * 3 + i], 0);
      out[y * newWidth * 3 + i] = byte(sum);
    }
  });
  return { height: newHeight, width: newWidth, data: out };
}

function newSize({ height, width }, settings) {
  if (!("shortest_edge" in settings.size)) return [settings.size.height, settings.size.width];
  let edge = settings.size.shortest_edge;
  const [short, long] = [Math.min(height, width), Math.max(height, width)];
  const limit = settings.respect_ratio_max;
  if (limit && (long / short) * edge > limit) edge = Math.round((limit * short) / long);
  const longer = Math.trunc((edge * long) / short);
  return width <= height ? [longer, edge] : [edge, longer];
}

// Where the middle `crop` of `extent` begins; negative where zeros stand in front.
const startOf = (extent, crop) =>
  extent >= crop ? Math.floor((extent - crop) / 2) : -Math.ceil((crop - extent) / 2);

function centreCrop(image, height, width) {
  const [top, left] = [startOf(image.height, height), startOf(image.width, width)];
  const data = new Uint8Array(height * width * 3);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [sy, sx] = [y + top, x + left];
      if (sy < 0 || sx < 0 || sy >= image.height || sx >= image.width) continue;
      for (let c = 0; c < 3; c++)
        data[(y * width + x) * 3 + c] = image.data[(sy * image.width + sx) * 3 + c];
    }
  return { height, width, data };
}

// One picture -> pixels (1, 3, H, W).
export function preprocess(image, a) {
  if (a.do_resize) image = resize(image, ...newSize(image, a), a.resample);
  if (a.do_center_crop && !a.respect_ratio_max)
    image = centreCrop(image, a.crop_size.height, a.crop_size.width);
  const { height, width, data } = image;
  const pixels = tensor([1, 3, height, width]);
  const order = settings.broken.has("bgr") ? [2, 1, 0] : [0, 1, 2];
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < height * width; i++) {
      const value = round(data[i * 3 + order[c]] * a.rescale_factor);
      pixels.data[c * height * width + i] = round(value - a.image_mean[c]) / a.image_std[c];
    }
  return pixels;
}
