/** How the JavaScript backend loads and stores each storage type, and the small functions its kernels may call. */
import { bf16ToF32, f8e4m3ToF32, f8e8m0ToF32, f16ToF32, f32ToBf16, f32ToF8e4m3, f32ToF16 } from "../../ir/half.ts";
import type { Buf } from "../../ir/kernel/kernel.ts";
import type { Range } from "../../ir/kernel/range.ts";
import { nearestEven } from "../../ir/scalar.ts";
import { type DType, dtypeInfo } from "../../ir/types.ts";
import { atom, binds, grouped, type Text } from "./scalar.ts";

/** Functions that emitted kernels call by these names. */
export const helpers = {
  nearestEven,
  f16ToF32,
  bf16ToF32,
  f8e4m3ToF32,
  f8e8m0ToF32,
  f32ToF16,
  f32ToBf16,
  f32ToF8e4m3,
  /** The E8M0 bits nearest to a power of two. */
  f32ToF8e8m0: (value: number) =>
    Number.isNaN(value) ? 255 : Math.min(Math.max(Math.round(Math.log2(value)) + 127, 0), 254),
  loadI4: (data: Uint8Array, i: number) => (data[i >> 1]! << (i & 1 ? 24 : 28)) >> 28,
  loadU4: (data: Uint8Array, i: number) => (data[i >> 1]! >> (i & 1 ? 4 : 0)) & 15,
  store4: (data: Uint8Array, i: number, value: number) => {
    const shift = i & 1 ? 4 : 0;
    data[i >> 1] = (data[i >> 1]! & ~(15 << shift)) | ((value & 15) << shift);
  },
};

export const helperSource = `const { ${Object.keys(helpers).join(", ")} } = helpers;`;

const widen: Partial<Record<DType, keyof typeof helpers>> = {
  f16: "f16ToF32",
  bf16: "bf16ToF32",
  f8e4m3: "f8e4m3ToF32",
  f8e8m0: "f8e8m0ToF32",
};

const narrow: Partial<Record<DType, keyof typeof helpers>> = {
  f16: "f32ToF16",
  bf16: "f32ToBf16",
  f8e4m3: "f32ToF8e4m3",
  f8e8m0: "f32ToF8e8m0",
};

/** The element at `index` as a value; bools become JavaScript booleans. */
export function loadText(buf: Buf, name: string, index: string): Text {
  const { dtype } = buf;
  const element = `${name}[${index}]`;
  if (dtype === "f64") return atom(element);
  if (dtype === "i4" || dtype === "u4") return atom(`${dtype === "i4" ? "loadI4" : "loadU4"}(${name}, ${index})`);
  if (dtype === "bool") return { text: `${element} !== 0`, binds: binds.equality };
  const convert = widen[dtype];
  return atom(convert === undefined ? element : `${convert}(${element})`);
}

/** The statement, without its semicolon, that stores a value whose range is known; integers saturate. */
export function storeText(buf: Buf, name: string, index: string, value: Text, range: Range): string {
  const { dtype } = buf;
  const place = `${name}[${index}]`;
  if (dtype === "f64" || dtype === "f32") return `${place} = ${value.text}`;
  if (dtype === "bool") return `${place} = ${grouped(value, binds.or)} ? 1 : 0`;
  const convert = narrow[dtype];
  if (convert !== undefined) return `${place} = ${convert}(${value.text})`;
  const [lo, hi] = dtypeInfo(dtype).range!;
  const fits = range.lo >= lo && range.hi <= hi;
  const text = fits ? value.text : `Math.min(Math.max(${value.text}, ${lo}), ${hi})`;
  return dtype === "i4" || dtype === "u4" ? `store4(${name}, ${index}, ${text})` : `${place} = ${text}`;
}
