/**
 * How WGSL kernels hold each storage type. WGSL has words of 32 bits alone, so smaller elements lie packed in an
 * `array<u32>` and are read and written by functions of the buffer's name. Neighbours in a word may belong to different
 * invocations, so a word that is written is atomic: each invocation clears and sets its own bits and no others.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { Buf } from "../../ir/kernel/kernel.ts";
import { type ArithmeticDType, loadedDType, type StorageDType } from "../../ir/kernel/value.ts";
import { type DType, dtypeInfo } from "../../ir/types.ts";
import type { LibraryName } from "./library.ts";

/** The WGSL type of a value with one lane. */
export function wgslType(dtype: ArithmeticDType): string {
  if (dtype === "f64")
    throw new UnsupportedError("WGSL", "there is no f64", { hint: "The target's accumulator is f32." });
  return dtype;
}

export function isPacked(dtype: StorageDType): boolean {
  return dtype !== "f64" && dtypeInfo(dtype).bits < 32;
}

interface Packing {
  /** The element from its bits (a u32 expression, upper bits zero). */
  readonly value: (bits: string) => string;
  /** Its bits from an element; the parameter's name is `value`. */
  readonly bits: string;
  readonly uses?: readonly LibraryName[];
}

const small = (name: "f16" | "f8e4m3" | "f8e8m0"): Packing => ({
  value: (bits) => `${name}_value(${bits})`,
  bits: `${name}_bits(value)`,
  uses: [`${name}_value`, `${name}_bits`],
});
/** Signed integers saturate, then keep their low bits. */
const signed = (bits: 4 | 8): Packing => ({
  value: (word) => `(bitcast<i32>(${word} << ${32 - bits}u) >> ${32 - bits}u)`,
  bits: `(bitcast<u32>(clamp(value, ${-(2 ** (bits - 1))}, ${2 ** (bits - 1) - 1})) & ${2 ** bits - 1}u)`,
});
const unsigned = (bits: 4 | 8): Packing => ({
  value: (word) => `bitcast<i32>(${word})`,
  bits: `u32(clamp(value, 0, ${2 ** bits - 1}))`,
});

const packings: Partial<Record<DType, Packing>> = {
  f16: small("f16"),
  bf16: { value: (bits) => `bitcast<f32>(${bits} << 16u)`, bits: "bf16_bits(value)", uses: ["bf16_bits"] },
  f8e4m3: small("f8e4m3"),
  f8e8m0: small("f8e8m0"),
  i8: signed(8),
  u8: unsigned(8),
  i4: signed(4),
  u4: unsigned(4),
  bool: { value: (bits) => `(${bits} != 0u)`, bits: "select(0u, 1u, value)" },
};

/** The declaration's element type of a buffer in memory. */
export function elementText(buf: Buf, stored: boolean): string {
  if (buf.space === "global" && isPacked(buf.dtype)) return stored ? "atomic<u32>" : "u32";
  return wgslType(loadedDType(buf.dtype));
}

export interface Access {
  readonly text: string;
  readonly uses: readonly LibraryName[];
}

/** The function that loads element `i` of a packed buffer. */
export function loadFunction(buf: Buf, name: string, stored: boolean): Access {
  const { packing, bits } = packingOf(buf);
  const { word, shift } = placeOf(bits);
  const read = stored ? `atomicLoad(&${name}[${word}])` : `${name}[${word}]`;
  const type = wgslType(loadedDType(buf.dtype));
  const value = packing.value(`((${read} >> ${shift}) & ${2 ** bits - 1}u)`);
  return { text: `fn load_${name}(i: i32) -> ${type} { return ${value}; }`, uses: used(packing, "_value") };
}

/** The function that gives the bits of an element, the lowest of a word. */
export function bitsFunction(buf: Buf, name: string): Access {
  const { packing } = packingOf(buf);
  const type = wgslType(loadedDType(buf.dtype));
  return { text: `fn bits_${name}(value: ${type}) -> u32 { return ${packing.bits}; }`, uses: used(packing, "_bits") };
}

/** The function that stores an element. */
export function storeFunction(buf: Buf, name: string): Access {
  const { packing, bits } = packingOf(buf);
  const { word, shift } = placeOf(bits);
  const type = wgslType(loadedDType(buf.dtype));
  const text = `fn store_${name}(i: i32, value: ${type}) {
  let shift = ${shift};
  atomicAnd(&${name}[${word}], ~(${2 ** bits - 1}u << shift));
  atomicOr(&${name}[${word}], ${packing.bits} << shift);
}`;
  return { text, uses: used(packing, "_bits") };
}

function packingOf(buf: Buf): { packing: Packing; bits: number } {
  // Callers ask for packed buffers only.
  const dtype = buf.dtype as DType;
  return { packing: packings[dtype]!, bits: dtypeInfo(dtype).bits };
}

/** Where element `i` lies, 32 / bits to a word. */
function placeOf(bits: number): { word: string; shift: string } {
  const perWord = 32 / bits;
  return { word: `i >> ${Math.log2(perWord)}u`, shift: `((u32(i) & ${perWord - 1}u) * ${bits}u)` };
}

function used({ uses = [] }: Packing, ending: string): readonly LibraryName[] {
  return uses.filter((name) => name.endsWith(ending));
}
