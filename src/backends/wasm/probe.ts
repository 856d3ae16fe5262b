/**
 * What the engine has, found by validating small modules, and what its relaxed instructions compute, found by running
 * them: a product of bytes may treat its second operand as signed or unsigned, and may saturate on the way; a relaxed
 * multiplication and addition may round the product. Nothing is concluded from an engine's name.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { ByteDots } from "../../ir/target.ts";
import { encodeModule } from "./encode.ts";
import { get, type Instr, laneOf, memory, type PlainOp, plain, set, type WasmFunc } from "./instr.ts";
import { type Rules, simdRules, type Tier } from "./rules.ts";

export interface Probe {
  readonly tier: Tier;
  /** The dot instruction is exact for bytes 0 .. 127, 0 .. 255, -128 .. 127 in its second operand. */
  readonly dotExact: boolean;
  readonly dotUnsigned: boolean;
  readonly dotSigned: boolean;
  /** The dot instruction of two products is exact for bytes 0 .. 127 in its second operand. */
  readonly dotPairs: boolean;
  /** Also for 128. */
  readonly dotMagnitudes: boolean;
  /** Whether relaxed multiply-add rounds once. Null where there is none. */
  readonly fused: boolean | null;
}

let found: Probe | undefined;

/** The result is kept: an engine does not change. */
export function probe(): Probe {
  found ??= runProbe();
  return found;
}

/** Why there can be no WebAssembly device here, or null. */
export function missingWasm(found: Probe = probe()): string | null {
  return found.tier === "none" ? "the engine has no WebAssembly with SIMD" : null;
}

/** The rules for a tier, or for the best one there is. Throws UnsupportedError where the engine lacks it. */
export function rulesFor(wanted?: string): Rules {
  const { tier, dotExact, dotSigned, dotUnsigned, dotPairs, dotMagnitudes } = probe();
  const best: Tier = tier === "relaxed" && !dotExact ? "simd" : tier;
  const chosen = wanted ?? best;
  const known = ["relaxed", "quads", "pairs", "simd"].includes(chosen);
  const has = known && (best === "relaxed" || best === chosen) && (chosen !== "pairs" || dotPairs);
  if (!has) {
    throw new UnsupportedError("wasm", `the engine has no instruction set ${JSON.stringify(chosen)}`, {
      hint: best === "none" ? "Use the js backend." : `It has ${best === "relaxed" ? "relaxed, simd" : best}.`,
    });
  }
  if (chosen === "simd") return simdRules;
  // Only where four products are one instruction are they exact beyond 127: elsewhere they are put together from pairs,
  // which saturate, and the pairs are faster by themselves.
  const quads = chosen === "quads" || (chosen === "relaxed" && (dotUnsigned || dotSigned || !dotPairs));
  const four = dotUnsigned ? "unsigned" : dotSigned ? "signed" : "words";
  const byteDots: ByteDots = quads
    ? { small: "quads", any: four }
    : { small: "pairs", any: dotMagnitudes ? "pairs" : "words" };
  return { tier: "relaxed", dotSigned, dotUnsigned, dotPairs, dotMagnitudes, byteDots };
}

/** Whether the engine has memories of 64-bit addresses, in the form of the specification. */
export function hasWideMemory(): boolean {
  const module = encodeModule({
    memory: { initial: 0, maximum: 1, shared: false, wide: true },
    globals: [],
    funcs: [],
  });
  if (!WebAssembly.validate(module)) return false;
  try {
    // The language's types do not know such memories yet.
    const descriptor = { address: "i64", initial: 0n, maximum: 1n } as unknown as WebAssembly.MemoryDescriptor;
    new WebAssembly.Instance(new WebAssembly.Module(module), { env: { memory: new WebAssembly.Memory(descriptor) } });
    return true;
  } catch {
    // An older engine takes no bigints here, or makes a memory that does not fit the module.
    return false;
  }
}

const vectors = (op: PlainOp, count: number): Instr[] => [
  ...Array.from({ length: count }, (_, i): Instr[] => [get("at"), memory("v128.load", 16 * i)]).flat(),
  plain(op),
];

/** Loads operands from memory and stores the result after them. */
function ternary(name: string, op: PlainOp): WasmFunc {
  const body: Instr[] = [get("at"), ...vectors(op, 3), memory("v128.store", 48)];
  return { name, params: [{ name: "at", type: "i32" }], results: [], locals: [], exported: true, body };
}

/** The same dot into many accumulators at once, which a baseline compiler under pressure has got wrong. */
const crowded = 12;
const pressure: WasmFunc = {
  name: "pressure",
  params: [{ name: "at", type: "i32" }],
  results: ["i32"],
  locals: Array.from({ length: crowded }, (_, i) => ({ name: `acc${i}`, type: "v128" })),
  exported: true,
  body: [
    ...Array.from({ length: 2 * crowded }, (_, i): Instr[] => [
      get("at"),
      memory("v128.load"),
      get("at"),
      memory("v128.load", 16),
      get(`acc${i % crowded}`),
      plain("i32x4.relaxed_dot_i8x16_i7x16_add_s"),
      set(`acc${i % crowded}`),
    ]).flat(),
    ...Array.from({ length: crowded }, (_, i): Instr[] => [
      get(`acc${i}`),
      ...(i === 0 ? [] : [plain("i32x4.add")]),
    ]).flat(),
    laneOf("i32x4.extract_lane", 3),
  ],
};

/** Pairs of products of the first two vectors. */
const pairDot: WasmFunc = {
  ...ternary("pairs", "v128.bitselect"),
  body: [get("at"), ...vectors("i16x8.relaxed_dot_i8x16_i7x16_s", 2), memory("v128.store", 48)],
};

function bytesOf(funcs: readonly WasmFunc[]): Uint8Array<ArrayBuffer> {
  return encodeModule({ memory: { initial: 1, shared: false }, globals: [], funcs });
}

const extremes = [-128, -127, -1, 0, 1, 127];

/** Whether pairs of products are exact for such bytes in the second operand. */
function exactPairs(storage: WebAssembly.Memory, pairs: (at: number) => number, factors: readonly number[]): boolean {
  const [values, sums] = [new Int8Array(storage.buffer, 0, 32), new Int16Array(storage.buffer, 48, 8)];
  return extremes.every((a) =>
    factors.every((b) => {
      values.fill(a, 0, 16).fill(b, 16, 32);
      pairs(0);
      return sums.every((sum) => sum === 2 * a * b);
    }),
  );
}

function runProbe(): Probe {
  const relaxed = [
    ternary("dot", "i32x4.relaxed_dot_i8x16_i7x16_add_s"),
    ternary("madd", "f32x4.relaxed_madd"),
    pairDot,
    pressure,
  ];
  const no = { dotExact: false, dotUnsigned: false, dotSigned: false, dotPairs: false, dotMagnitudes: false };
  const none = { ...no, fused: null };
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(bytesOf([ternary("select", "v128.bitselect")]))) {
    return { tier: "none", ...none };
  }
  const bytes = bytesOf(relaxed);
  if (!WebAssembly.validate(bytes)) return { tier: "simd", ...none };
  const storage = new WebAssembly.Memory({ initial: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory: storage } });
  const { dot, madd, pairs, pressure: crowd } = exports as Record<string, (at: number) => number>; // exported above
  const values = new Int8Array(storage.buffer, 0, 32);
  const words = new Int32Array(storage.buffer, 0, 16);
  const dots = (a: number, b: number, others: number) => {
    // Lane 3 has the extreme pair, the other lanes smaller ones.
    values.fill(a, 0, 16).fill(others, 16, 32).fill(b, 28, 32);
    words.fill(7, 8, 12);
    dot!(0);
    return words[15];
  };
  const exact = (b: readonly number[]) =>
    extremes.every((a) => b.every((each) => dots(a, each, 1) === 7 + 4 * a * each));
  const dotPairs = exactPairs(storage, pairs!, [0, 1, 2, 64, 126, 127]);
  const crowdedDot = () => {
    values.fill(-128, 0, 16).fill(127, 16, 32);
    return crowd!(0);
  };
  const dotExact = exact([0, 1, 2, 64, 126, 127]) && crowdedDot() === 2 * crowded * 4 * -128 * 127;
  const floats = new Float32Array(storage.buffer, 0, 16);
  // (1 + 2^-12)^2 - 1 - 2^-11 = 2^-24, which is lost when the product is rounded.
  floats.fill(1 + 2 ** -12, 0, 8).fill(-1 - 2 ** -11, 8, 12);
  madd!(0);
  const fused = floats[12] !== 0;
  return {
    tier: "relaxed",
    dotExact,
    dotUnsigned: dotExact && extremes.every((a) => [128, 200, 255].every((b) => dots(a, b, 255) === 7 + 4 * a * b)),
    dotPairs,
    dotMagnitudes: dotPairs && exactPairs(storage, pairs!, [128]),
    dotSigned: dotExact && exact([-128, -127, -64, -1]),
    fused,
  };
}
