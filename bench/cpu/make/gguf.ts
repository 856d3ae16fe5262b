/** Writes GGUF version 3, the format that llama.cpp reads: key-value pairs, names and places of tensors, then aligned data. */
import { closeSync, openSync, writeSync } from "node:fs";

export type GgufValue =
  | { readonly type: "u32" | "f32"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: Int32Array };

/** Numbers of GGUF for the kinds of tensors used here. */
export const tensorTypes = { f32: 0, q4_0: 2, q8_0: 8, q4_k: 12 } as const;

export interface GgufEntry {
  readonly name: string;
  /** The fastest axis first. */
  readonly dims: readonly number[];
  readonly type: keyof typeof tensorTypes;
  readonly bytes: number;
  /** The data in pieces, which may be views of one buffer that is overwritten. */
  readonly data: () => Iterable<Uint8Array>;
}

const alignment = 32;
const valueTypes = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** Writes the file piece by piece. */
export function writeGguf(path: string, metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufEntry[]): void {
  const header = new ByteWriter();
  header.raw(new TextEncoder().encode("GGUF"));
  header.u32(3);
  header.u64(tensors.length);
  header.u64(metadata.size);
  for (const [key, value] of metadata) {
    header.string(key);
    writeValue(header, value);
  }
  let offset = 0;
  for (const { name, dims, type, bytes } of tensors) {
    header.string(name);
    header.u32(dims.length);
    for (const dim of dims) header.u64(dim);
    header.u32(tensorTypes[type]);
    header.u64(offset);
    offset = align(offset + bytes);
  }
  const file = openSync(path, "w");
  try {
    let at = write(file, header.bytes());
    at += write(file, new Uint8Array(align(at) - at));
    for (const { name, bytes, data } of tensors) {
      let written = 0;
      for (const piece of data()) written += write(file, piece);
      if (written !== bytes) throw new Error(`${path} ${name}: ${written} bytes, expected ${bytes}`);
      write(file, new Uint8Array(align(written) - written));
    }
  } finally {
    closeSync(file);
  }
}

/** All of it, however little the system takes at once; gives its length. */
export function write(file: number, bytes: Uint8Array): number {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
  return bytes.length;
}

function writeValue(to: ByteWriter, value: GgufValue): void {
  switch (value.type) {
    case "u32":
      to.u32(valueTypes.u32);
      to.u32(value.value);
      return;
    case "f32":
      to.u32(valueTypes.f32);
      to.raw(new Uint8Array(Float32Array.of(value.value).buffer));
      return;
    case "bool":
      to.u32(valueTypes.bool);
      to.raw(Uint8Array.of(value.value ? 1 : 0));
      return;
    case "string":
      to.u32(valueTypes.string);
      to.string(value.value);
      return;
    case "strings":
      to.array(valueTypes.string, value.value.length);
      for (const text of value.value) to.string(text);
      return;
    case "i32s":
      to.array(valueTypes.i32, value.value.length);
      to.raw(new Uint8Array(value.value.buffer));
      return;
  }
}

/** Little-endian bytes in a buffer that grows. */
class ByteWriter {
  #buffer = new Uint8Array(1 << 20);
  #length = 0;
  readonly #encoder = new TextEncoder();

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  raw(bytes: Uint8Array): void {
    const end = this.#length + bytes.length;
    if (end > this.#buffer.length) {
      const wider = new Uint8Array(2 * end);
      wider.set(this.bytes());
      this.#buffer = wider;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = end;
  }

  u32(value: number): void {
    this.raw(Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24));
  }

  u64(value: number): void {
    this.u32(value % 2 ** 32);
    this.u32(Math.floor(value / 2 ** 32));
  }

  string(text: string): void {
    const bytes = this.#encoder.encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  array(type: number, length: number): void {
    this.u32(valueTypes.array);
    this.u32(type);
    this.u64(length);
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
