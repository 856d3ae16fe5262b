/**
 * The safetensors file format: an unsigned 64-bit little-endian header length N, N bytes of JSON that map tensor names to
 * `{dtype, shape, data_offsets: [begin, end]}` (offsets counted from byte 8 + N), then the data, row-major.
 * The whole header is checked before any tensor is read: every range lies inside the file, has the length its shape asks
 * for, and the ranges cover the data without overlap or hole.
 */
import { didYouMean, InputError, invariant, showValue, UnsupportedError } from "../../ir/errors.ts";
import { type Tensor, type TensorData, tensorFrom, viewOf, zeros } from "../../ir/tensor.ts";
import { type DType, type Shape, showType, sizeOf, tensorType } from "../../ir/types.ts";
import { type ByteSource, decodeUtf8 } from "./byte-source.ts";
import { asArray, asObject, asText, isCount, type JsonValue, parseJsonObject, showJson } from "./json.ts";

/** The reference implementation's limit. */
export const maxHeaderBytes = 100_000_000;
const maxDims = 8;

/** Bytes of an element in the file, and the dtype it is read as; none where the IR has no such dtype. */
const formats: ReadonlyMap<string, { readonly bytes: number; readonly dtype?: DType }> = new Map([
  ["F32", { bytes: 4, dtype: "f32" }],
  ["F16", { bytes: 2, dtype: "f16" }],
  ["BF16", { bytes: 2, dtype: "bf16" }],
  ["F8_E4M3", { bytes: 1, dtype: "f8e4m3" }],
  ["F8_E8M0", { bytes: 1, dtype: "f8e8m0" }],
  ["I32", { bytes: 4, dtype: "i32" }],
  ["U32", { bytes: 4, dtype: "u32" }],
  ["I8", { bytes: 1, dtype: "i8" }],
  ["U8", { bytes: 1, dtype: "u8" }],
  ["BOOL", { bytes: 1, dtype: "bool" }],
  // Narrowed when read; a value that does not fit is an error.
  ["I64", { bytes: 8, dtype: "i32" }],
  ["F64", { bytes: 8 }],
  ["U64", { bytes: 8 }],
  ["I16", { bytes: 2 }],
  ["U16", { bytes: 2 }],
  ["F8_E5M2", { bytes: 1 }],
]);

export interface TensorEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  /** The dtype as the file spells it; differs from `dtype` for I64, which is read as i32. */
  readonly format: string;
  /** Position in the file, and length there. */
  readonly offset: number;
  readonly bytes: number;
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Reads and checks the header. Allocates at most the header's length a few times over. @throws InputError, UnsupportedError */
export async function readSafetensorsHeader(source: ByteSource, file: string): Promise<SafetensorsHeader> {
  if (source.size < 8) throw new InputError(file, `not a safetensors file: ${source.size} bytes, expected at least 8`);
  const prefix = await source.read(0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  const limit = Math.min(maxHeaderBytes, source.size - 8);
  if (length > BigInt(limit)) {
    throw new InputError(file, `header length ${length}: expected at most ${limit}`, {
      hint: "The file is cut short, or is not a safetensors file.",
    });
  }
  const headerBytes = Number(length);
  const text = decodeUtf8(`${file} header`, await source.read(8, headerBytes));
  if (!text.startsWith("{"))
    throw new InputError(file, `the header starts with ${showValue(text.slice(0, 8))}: expected "{"`);
  return parseSafetensorsHeader(text, file, 8 + headerBytes, source.size);
}

/** Checks a header's text; the data lies between `dataStart` and `fileSize`. */
export function parseSafetensorsHeader(
  text: string,
  file: string,
  dataStart: number,
  fileSize: number,
): SafetensorsHeader {
  const header = parseJsonObject(text, `${file} header`);
  const tensors = new Map<string, TensorEntry>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of header) {
    if (name === "__metadata__") metadata = readMetadata(value, `${file} __metadata__`);
    else tensors.set(name, readEntry(name, value, file, dataStart, fileSize));
  }
  checkCoverage(tensors, file, dataStart, fileSize);
  return { tensors, metadata };
}

function readMetadata(value: JsonValue, where: string): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const [key, item] of asObject(value, where)) texts.set(key, asText(item, `${where} ${showValue(key)}`));
  return texts;
}

function readEntry(name: string, value: JsonValue, file: string, dataStart: number, fileSize: number): TensorEntry {
  const where = `${file} tensor ${showValue(name)}`;
  const fields = asObject(value, where);
  const format = asText(fields.get("dtype"), `${where} dtype`);
  const known = formats.get(format);
  if (known === undefined) {
    const hint = didYouMean(format, formats.keys());
    throw new InputError(where, `unknown dtype ${showValue(format)}`, hint === undefined ? {} : { hint });
  }
  if (known.dtype === undefined) {
    const supported = [...formats].filter(([, row]) => row.dtype !== undefined).map(([key]) => key);
    throw new UnsupportedError(where, `dtype ${format}`, { hint: `Supported: ${supported.join(", ")}.` });
  }
  const shape = readShape(fields.get("shape"), `${where} shape`);
  const offsets = asArray(fields.get("data_offsets"), `${where} data_offsets`);
  const [begin, end] = offsets;
  if (offsets.length !== 2 || !isCount(begin) || !isCount(end) || begin > end) {
    throw new InputError(
      `${where} data_offsets`,
      `expected [begin, end], got [${offsets.slice(0, 4).map(showJson).join(", ")}]`,
    );
  }
  // Written so that nothing is added to a number from the file.
  if (end > fileSize - dataStart) {
    throw new InputError(where, `ends at byte ${end} of the data: the file holds ${fileSize - dataStart}`, {
      hint: "The file is cut short.",
    });
  }
  // In BigInt: a product of dimensions may pass 2^53, where doubles lose precision and 64-bit integers wrap.
  const expected = shape.reduce((product, dim) => product * BigInt(dim), BigInt(known.bytes));
  if (expected !== BigInt(end - begin)) {
    throw new InputError(where, `${end - begin} bytes of data: expected ${expected} for ${format}[${shape.join(",")}]`);
  }
  return { name, dtype: known.dtype, shape, format, offset: dataStart + begin, bytes: end - begin };
}

function readShape(value: JsonValue | undefined, where: string): number[] {
  const dims = asArray(value, where);
  if (dims.length > maxDims) throw new InputError(where, `${dims.length} dimensions: expected at most ${maxDims}`);
  return dims.map((dim) => {
    if (!isCount(dim)) throw new InputError(where, `expected whole numbers from 0, got ${showJson(dim)}`);
    return dim;
  });
}

/** The format wants every byte of the data in exactly one tensor, which rules out overlaps too. */
function checkCoverage(
  tensors: ReadonlyMap<string, TensorEntry>,
  file: string,
  dataStart: number,
  fileSize: number,
): void {
  const inOrder = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let at = dataStart;
  for (const { name, offset, bytes } of inOrder) {
    if (offset !== at) {
      const what = offset < at ? "overlaps another tensor" : "leaves a gap before it";
      throw new InputError(
        `${file} tensor ${showValue(name)}`,
        `${what}: data from byte ${offset - dataStart}, expected ${at - dataStart}`,
      );
    }
    at += bytes;
  }
  if (at !== fileSize) {
    throw new InputError(file, `${fileSize - at} bytes after the last tensor: expected none`);
  }
}

/** Elements in row-major order, from `from` below `to`. */
export interface ElementRange {
  readonly from: number;
  readonly to: number;
}

/** Reads one tensor's bytes, and no others. @throws InputError when they changed under us or do not fit the dtype. */
export async function readTensor(source: ByteSource, entry: TensorEntry, file: string): Promise<Tensor> {
  const size = sizeOf(entry.shape);
  const data = await readElements(source, entry, file, { from: 0, to: size });
  return tensorFrom(tensorType(entry.dtype, entry.shape), data);
}

/** Reads the bytes of some elements, into `into` if given, which has their length. @throws InputError as `readTensor` */
export async function readElements(
  source: ByteSource,
  entry: TensorEntry,
  file: string,
  { from, to }: ElementRange,
  into?: TensorData,
): Promise<TensorData> {
  const where = `${file} tensor ${showValue(entry.name)}`;
  const size = sizeOf(entry.shape);
  const whole = Number.isSafeInteger(from) && Number.isSafeInteger(to) && from >= 0 && from <= to && to <= size;
  invariant(whole, () => `elements ${from} to ${to} of ${size}`, where);
  const each = size === 0 ? 0 : entry.bytes / size;
  const [offset, length] = [entry.offset + from * each, (to - from) * each];
  // Elements of the file that are narrowed take more room there.
  const narrowed = entry.format === "I64";
  const own =
    into !== undefined && !narrowed ? new Uint8Array(into.buffer, into.byteOffset, into.byteLength) : undefined;
  const bytes = await source.read(offset, length, own);
  if (bytes.length !== length) throw new InputError(where, `got ${bytes.length} bytes: expected ${length}`);
  // A source made elsewhere may know nothing of `into`.
  if (own !== undefined && bytes.buffer !== own.buffer) own.set(bytes);
  if (narrowed) return narrow(bytes, into ?? zeros("i32", [to - from]).data, from, where);
  if (entry.format === "BOOL" && bytes.some((byte) => byte > 1)) {
    throw new InputError(where, `a byte other than 0 and 1 in a BOOL tensor`);
  }
  if (into !== undefined) return into;
  const { BYTES_PER_ELEMENT: width } = zeros(entry.dtype, [0]).data;
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  return viewOf(entry.dtype, aligned.buffer, aligned.byteOffset, to - from);
}

/** 64-bit integers, from element `first` on, into i32. */
function narrow(bytes: Uint8Array, into: TensorData, first: number, where: string): TensorData {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < into.length; i++) {
    const low = view.getInt32(8 * i, true);
    if (view.getInt32(8 * i + 4, true) !== low >> 31) {
      const value = view.getBigInt64(8 * i, true);
      throw new UnsupportedError(where, `the I64 value ${value} at ${first + i} does not fit in 32 bits`);
    }
    into[i] = low;
  }
  return into;
}

const spelling: ReadonlyMap<DType, string> = new Map(
  [...formats].flatMap(([format, { dtype }]) =>
    dtype === undefined || format === "I64" ? [] : [[dtype, format] as const],
  ),
);

/** The bytes of a safetensors file with these tensors, widest elements first so that all are aligned. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array {
  const width = (tensor: Tensor): number => tensor.data.BYTES_PER_ELEMENT;
  const inOrder = [...tensors].sort(([, a], [, b]) => width(b) - width(a));
  const fields: string[] = [];
  if (metadata.size > 0) fields.push(`"__metadata__":${JSON.stringify(Object.fromEntries(metadata))}`);
  let size = 0;
  for (const [name, { type, data }] of inOrder) {
    const dtype = spelling.get(type.dtype);
    if (dtype === undefined) throw new UnsupportedError(name, `${showType(type)} in a safetensors file`);
    const end = size + data.byteLength;
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape: type.shape, data_offsets: [size, end] })}`);
    size = end;
  }
  const header = new TextEncoder().encode(`{${fields.join(",")}}`);
  const dataStart = 8 + Math.ceil(header.length / 8) * 8;
  const file = new Uint8Array(dataStart + size).fill(0x20, 8, dataStart);
  new DataView(file.buffer).setBigUint64(0, BigInt(dataStart - 8), true);
  file.set(header, 8);
  let at = dataStart;
  for (const [, { data }] of inOrder) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return file;
}
