/**
 * Vectors of bytes and of halves in WGSL: they stay in the words in which they lie in memory, loaded several at once. A
 * buffer that a kernel reads in such vectors alone is declared as an array of them.
 */
import { invariant } from "../../ir/errors.ts";
import { eachAccess } from "../../ir/kernel/blocks.ts";
import { divisorOf } from "../../ir/kernel/divisor.ts";
import type { IntrinsicName } from "../../ir/kernel/intrinsics.ts";
import type { Buf, Expr, Kernel, Load } from "../../ir/kernel/kernel.ts";
import { type Facts, factsOf } from "../../ir/kernel/range.ts";
import { isPackedValue, storageBits } from "../../ir/kernel/value.ts";
import { eachStmt, exprsOf, operandsOf } from "../../ir/kernel/walk.ts";
import { atom, binary, binds, grouped, type Row, type Text } from "./scalar.ts";

interface Place {
  readonly name: string;
  readonly index: Text;
  readonly facts: Facts;
  readonly wide: ReadonlyMap<string, number>;
  /** Buffers with atomic words. */
  readonly atomic: ReadonlySet<string>;
}

/** Words that a vector load takes; undefined where it goes element by element. */
function wordsOf(load: Load, buf: Buf, finite: boolean): number | undefined {
  const { dtype, lanes } = load.type;
  if (isPackedValue(dtype)) return lanes / 4;
  if (buf.dtype === "bf16" && lanes === 4) return 2;
  return finite && buf.dtype === "f16" && lanes > 1 ? lanes / 2 : undefined;
}

/** The words in an element of the buffers that are only read, and always by vectors of one size. */
export function wideBufs(kernel: Kernel, written: ReadonlySet<string>): Map<string, number> {
  const bufs = new Map(kernel.bufs.map((buf) => [buf.name, buf]));
  const found = new Map<string, Set<number>>();
  const visit = (expr: Expr, finite: boolean): void => {
    if (expr.k === "load") {
      const words = found.get(expr.buf) ?? new Set();
      found.set(expr.buf, words.add(wordsOf(expr, bufs.get(expr.buf)!, finite) ?? 1));
    }
    for (const operand of operandsOf(expr)) visit(operand, expr.k === "intrinsic" && expr.name === "finite");
  };
  eachStmt(kernel.body, (stmt) => {
    for (const expr of exprsOf(stmt)) visit(expr, false);
  });
  const apart = new Set<string>();
  eachAccess(kernel.body, factsOf(kernel), ({ buf, index, facts }) => {
    if (divisorOf(index, facts) % 4 !== 0) apart.add(buf);
  });
  const wide = new Map<string, number>();
  for (const [name, sizes] of found) {
    const [words] = sizes;
    const { space, dtype } = bufs.get(name)!;
    const fits = sizes.size === 1 && (words === 2 || words === 4) && !(dtype === "bf16" && apart.has(name));
    if (fits && space === "global" && !written.has(name)) wide.set(name, words!);
  }
  return wide;
}

/** The words of a vector of bytes. */
export function wordsText(load: Load, buf: Buf, { name, index, facts, wide, atomic }: Place): Text {
  const words = load.type.lanes / 4;
  const perWord = 32 / storageBits(buf.dtype);
  const lanes = words * perWord;
  invariant(
    divisorOf(load.index, facts) % lanes === 0,
    () => `${buf.name}: a load of ${lanes} elements from between them`,
  );
  const declared = wide.get(buf.name) ?? 1;
  invariant(declared === 1 || declared === words, () => `${buf.name} is declared for other loads`);
  const at = (elements: number) => `${grouped(index, binds.atom)} >> ${Math.log2(elements)}u`;
  if (declared > 1) return atom(`${name}[${at(lanes)}]`);
  const word = (place: string) => (atomic.has(buf.name) ? `atomicLoad(&${name}[${place}])` : `${name}[${place}]`);
  if (words === 1) return atom(word(at(perWord)));
  const each = Array.from({ length: words }, (_, i) => word(i === 0 ? at(perWord) : `(${at(perWord)}) + ${i}`));
  return atom(`vec${words}<u32>(${each.join(", ")})`);
}

/** The library function that `halvesText` calls. */
export const fourHalves = "four_halves";

/** Halves widened together; undefined where these are no halves. Subnormal ones may be flushed, as WGSL allows. */
export function halvesText(load: Load, buf: Buf, place: Place): Text | undefined {
  const words = wordsOf(load, buf, true);
  if (words !== 2 || buf.dtype !== "f16" || place.wide.get(buf.name) !== 2) return undefined;
  const bytes: Load = { ...load, type: { dtype: "u8", lanes: 8 } };
  return atom(`${fourHalves}(${wordsText(bytes, buf, place).text})`);
}

/** The library function that `elementsText` calls. */
export const fourShort = "four_bf16";

/** Four bytes or bf16 that lie in whole words, widened together; undefined where they do not, or are of another type. */
export function elementsText(load: Load, buf: Buf, place: Place): Text | undefined {
  const bytes = buf.dtype === "i8" || buf.dtype === "u8";
  if (buf.space !== "global" || load.type.lanes !== 4 || !(bytes || buf.dtype === "bf16")) return undefined;
  if (divisorOf(load.index, place.facts) % 4 !== 0) return undefined;
  const { text } = wordsText({ ...load, type: { dtype: "u8", lanes: bytes ? 4 : 8 } }, buf, place);
  if (!bytes) return atom(`${fourShort}(${text})`);
  return atom(buf.dtype === "i8" ? `unpack4xI8(${text})` : `vec4<i32>(unpack4xU8(${text}))`);
}

/** One half that is known to be finite; undefined where it is none, or lies in a buffer of vectors or of atomic words. */
export function halfText(load: Load, buf: Buf, { name, index, wide }: Place, written: boolean): Text | undefined {
  if (buf.dtype !== "f16" || buf.space !== "global" || load.type.lanes > 1 || wide.has(buf.name) || written)
    return undefined;
  const at = grouped(index, binds.atom);
  return atom(`unpack2x16float(${name}[${at} >> 1u])[${at} & 1]`);
}

const each = (byte: string): Text => atom(`vec4<u32>(0x${byte.repeat(4)}u)`);
const and = binary("&", 0, binds.atom);
const xor = binary("^", 0, binds.atom);
const shiftLeft = (x: Text): Text => ({ text: `${grouped(x, binds.atom)} << vec4<u32>(4u)`, binds: 0 });

/** What stands for an intrinsic; there is none for those that only processors have. */
export const intrinsicRows: Partial<Record<IntrinsicName, Row>> = {
  fma: { emit: (a, b, c) => atom(`fma(${a!.text}, ${b!.text}, ${c!.text})`) },
  finite: { emit: (x) => x! },
  repeat4: { emit: (x) => atom(`vec4<u32>(${x!.text})`) },
  spread4: { emit: (x, i) => atom(`vec4<u32>(${grouped(x!, binds.atom)}.${"xyzw"[Number(i!.text) & 3]})`) },
  part4: { emit: (x, i) => atom(`${grouped(x!, binds.atom)}.${"xyzw"[Number(i!.text) & 3]}`) },
  join4: { emit: (...parts) => atom(`vec4(${parts.map(({ text }) => text).join(", ")})`) },
  unbiased: { emit: (x) => ({ text: `bitcast<vec4<f32>>(${x!.text}) - vec4<f32>(12582912.0)`, binds: binds.sum }) },
  less128: { emit: (x) => xor(x!, each("80")) },
  low4s: { emit: (x) => xor(and(shiftLeft(x!), each("f0")), each("80")) },
  high4s: { emit: (x) => xor(and(x!, each("f0")), each("80")) },
  rounded16: { emit: (x) => atom(`f16_rounded(${x!.text})`), uses: "f16_rounded" },
  word4: { emit: (...bytes) => atom(`pack4xI8(vec4<i32>(${bytes.map(({ text }) => text).join(", ")}))`) },
  bytes4: { emit: (word) => word! },
  dot4s8: { emit: (sum, a, b) => atom(`dot4s8(${sum!.text}, ${a!.text}, ${b!.text})`), uses: "dot4s8" },
};
