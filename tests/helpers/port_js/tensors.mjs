// Tensors in row-major order, and safetensors files of them. No packages, plain loops.
import { readFileSync, writeFileSync } from "node:fs";

// float32: every result is rounded to float32, as in a port that computes in it.
// broken: mistakes made on purpose, by name, to see whether the kit finds them.
export const settings = { float32: false, broken: new Set() };

export const round = (x) => (settings.float32 ? Math.fround(x) : x);
export const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);

export function tensor(shape, data) {
  const Floats = settings.float32 ? Float32Array : Float64Array;
  return { shape, data: data ?? new Floats(sizeOf(shape)) };
}

export function map(x, f) {
  const y = tensor(x.shape);
  for (let i = 0; i < x.data.length; i++) y.data[i] = f(x.data[i], i);
  return y;
}

export const add = (x, y) => map(x, (a, i) => a + y.data[i]);
export const reshaped = (x, shape) => ({ shape, data: x.data });

// The part [start, stop) of the first axis, or of the second.
export function rows(x, start, stop) {
  const width = sizeOf(x.shape.slice(1));
  const part = x.data.slice(start * width, stop * width);
  return { shape: [stop - start, ...x.shape.slice(1)], data: part };
}

export function columns(x, start, stop) {
  const [b, n, ...rest] = x.shape;
  const width = sizeOf(rest);
  const y = tensor([b, stop - start, ...rest]);
  let at = 0;
  for (let i = 0; i < b; i++)
    for (let j = start * width; j < stop * width; j++) y.data[at++] = x.data[i * n * width + j];
  return y;
}

// ---- safetensors: 8 bytes of header length, a JSON header, the numbers

const READ = {
  F32: [4, (v, i) => v.getFloat32(i, true)],
  I64: [8, (v, i) => Number(v.getBigInt64(i, true))],
  U8: [1, (v, i) => v.getUint8(i)],
};

export function readSafetensors(path) {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString("utf8"));
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [size, get] = READ[entry.dtype];
    const start = bytes.byteOffset + 8 + length + entry.data_offsets[0];
    const view = new DataView(bytes.buffer, start, entry.data_offsets[1] - entry.data_offsets[0]);
    const data = Array.from({ length: sizeOf(entry.shape) }, (_, i) => get(view, i * size));
    tensors[name] = tensor(entry.shape, entry.dtype === "F32" ? floats(data) : data);
  }
  return tensors;
}

const floats = (data) => (settings.float32 ? Float32Array.from(data) : Float64Array.from(data));

export function writeSafetensors(path, tensors) {
  const header = {};
  const parts = [];
  let offset = 0;
  for (const [name, x] of Object.entries(tensors)) {
    const whole = x.integers === true;
    const part = Buffer.alloc(x.data.length * (whole ? 8 : 4));
    x.data.forEach((value, i) =>
      whole ? part.writeBigInt64LE(BigInt(value), i * 8) : part.writeFloatLE(value, i * 4),
    );
    const data_offsets = [offset, (offset += part.length)];
    header[name] = { dtype: whole ? "I64" : "F32", shape: x.shape, data_offsets };
    parts.push(part);
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  writeFileSync(path, Buffer.concat([head, Buffer.from(text), ...parts]));
}
