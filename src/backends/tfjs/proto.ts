/**
 * Writes protocol buffers: the wire format of https://protobuf.dev/programming-guides/encoding, as much of it as a
 * TensorFlow graph needs. A message is a list of fields, which are written in the order of their numbers, entries of a
 * map in the order of their keys, so that equal messages are equal bytes.
 */
import { UnsupportedError } from "../../ir/errors.ts";

/** Bytes in pieces, so that what is large is copied once, at the end. */
interface Bytes {
  readonly parts: readonly Uint8Array[];
  readonly length: number;
}

/** One field of a message with its tag. */
export interface Field {
  readonly number: number;
  readonly bytes: Bytes;
}

/** Most bytes of a message: readers keep lengths in 32 bits. */
export const maxMessageBytes = 2 ** 31 - 1;

const wire = { varint: 0, length: 2, fixed32: 5 } as const;
const utf8 = new TextEncoder();

/** A whole number; negative ones take ten bytes. Written even if it is zero, which a `oneof` needs. */
export function int(number: number, value: number): Field {
  if (!Number.isSafeInteger(value)) throw new UnsupportedError("protobuf", `expected a whole number, got ${value}`);
  return field(number, wire.varint, varint(value));
}

export function bool(number: number, value: boolean): Field {
  return int(number, value ? 1 : 0);
}

export function float(number: number, value: number): Field {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return field(number, wire.fixed32, bytes);
}

export function text(number: number, value: string): Field {
  return bytes(number, utf8.encode(value));
}

/** The bytes themselves are kept until the message is finished, not a copy. */
export function bytes(number: number, value: Uint8Array): Field {
  return prefixed(number, { parts: [value], length: value.length });
}

/** A message as a field of another. */
export function message(number: number, fields: readonly Field[]): Field {
  return prefixed(number, joined(fields));
}

/** Whole numbers, zero or more, one after another without tags. Nothing is written for none. */
export function packed(number: number, values: readonly number[]): readonly Field[] {
  if (values.length === 0) return [];
  return [prefixed(number, concat(values.map((value) => whole(varint(value)))))];
}

/** A map from text to messages. */
export function map<T>(
  number: number,
  entries: Readonly<Record<string, T>>,
  fieldsOf: (value: T) => readonly Field[],
): readonly Field[] {
  // By UTF-16 units, which for ASCII is the order of bytes.
  const sorted = Object.entries(entries).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return sorted.map(([key, value]) => message(number, [text(1, key), message(2, fieldsOf(value))]));
}

/** The bytes of the outermost message. @throws UnsupportedError for more than a reader takes */
export function finish(fields: readonly Field[], what = "message"): Uint8Array<ArrayBuffer> {
  const { parts, length } = joined(fields);
  checkLength(length, what);
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** @throws UnsupportedError for more bytes than a message may have */
export function checkLength(length: number, what: string): void {
  if (length <= maxMessageBytes) return;
  throw new UnsupportedError(what, `expected at most ${maxMessageBytes} bytes, which readers take, got ${length}`, {
    hint: "Large tensors belong in variables, not in the graph.",
  });
}

function field(number: number, type: number, value: Uint8Array): Field {
  return { number, bytes: concat([whole(varint(number * 8 + type)), whole(value)]) };
}

function prefixed(number: number, content: Bytes): Field {
  const head = [varint(number * 8 + wire.length), varint(content.length)].map(whole);
  return { number, bytes: concat([...head, content]) };
}

function joined(fields: readonly Field[]): Bytes {
  // A stable sort: repeated fields stay in their order.
  return concat(fields.toSorted((a, b) => a.number - b.number).map((each) => each.bytes));
}

function whole(value: Uint8Array): Bytes {
  return { parts: [value], length: value.length };
}

/** Small pieces become one: a graph has a hundred thousand. */
const smallPiece = 1 << 12;

function concat(all: readonly Bytes[]): Bytes {
  const length = all.reduce((sum, each) => sum + each.length, 0);
  const parts: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const flush = () => {
    if (small.length > 0) parts.push(small.length === 1 ? small[0]! : merged(small));
    small = [];
  };
  for (const { parts: own } of all) {
    for (const part of own) {
      if (part.length < smallPiece) small.push(part);
      else {
        flush();
        parts.push(part);
      }
    }
  }
  flush();
  return { parts, length };
}

function merged(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Seven bits to a byte, the lowest first; a negative number as its 64-bit two's complement. */
function varint(value: number): Uint8Array {
  const out: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    out.push(rest === 0n ? low : low | 128);
  } while (rest !== 0n);
  return Uint8Array.from(out);
}
