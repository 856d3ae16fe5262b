/**
 * WebAssembly as a list of instruction records with named locals, functions and labels. One table says of every
 * instruction its opcode, its operand and result types and its immediates; the encoder, the text printer and the type
 * checker all read it.
 */
import { atomicRows, coreRows, type Immediate, type Row, saturatingRows } from "./instr-core.ts";
import { relaxedRows, simdRows } from "./instr-simd.ts";

export type WasmType = "i32" | "i64" | "f32" | "f64" | "v128";

const rows = { ...coreRows, ...saturatingRows, ...simdRows, ...relaxedRows, ...atomicRows };
type Rows = typeof rows;

/** Instructions whose immediates fit a pattern. */
type OpsWith<I> = { [N in keyof Rows]: Rows[N] extends readonly [number, string, string, I] ? N : never }[keyof Rows];
export type MemoryOp = OpsWith<`memory${number}`>;
export type LaneOp = Exclude<OpsWith<`lane${number}`>, LaneMemoryOp>;
export type LaneMemoryOp = OpsWith<`lane${number}memory${number}`>;
/** Instructions without immediates. */
export type PlainOp = Exclude<keyof Rows, OpsWith<Immediate>>;
export type TableOp = keyof Rows;

export type Instr =
  | { readonly k: "plain"; readonly op: PlainOp }
  | { readonly k: "memory"; readonly op: MemoryOp; readonly offset: number }
  | { readonly k: "lane"; readonly op: LaneOp; readonly lane: number }
  | { readonly k: "laneMemory"; readonly op: LaneMemoryOp; readonly offset: number; readonly lane: number }
  | { readonly k: "const"; readonly type: "i32" | "f32" | "f64"; readonly value: number }
  | { readonly k: "const64"; readonly value: bigint }
  | { readonly k: "const128"; readonly bytes: readonly number[] }
  /** Lane i of the result is byte lanes[i] of the two operands one after the other. */
  | { readonly k: "shuffle"; readonly lanes: readonly number[] }
  | { readonly k: "local"; readonly op: "local.get" | "local.set" | "local.tee"; readonly name: string }
  | { readonly k: "global"; readonly op: "global.get" | "global.set"; readonly name: string }
  | { readonly k: "call"; readonly func: string }
  | { readonly k: "other"; readonly op: keyof typeof otherOps }
  /** The first operand if the last is not zero, else the second. */
  | { readonly k: "select"; readonly type: WasmType }
  | { readonly k: "block"; readonly op: "block" | "loop"; readonly label: string; readonly body: readonly Instr[] }
  | {
      readonly k: "if";
      readonly result: WasmType | null;
      readonly then: readonly Instr[];
      readonly else: readonly Instr[];
    }
  /** Takes a value of any type away. */
  | { readonly k: "drop" }
  | { readonly k: "branch"; readonly op: "br" | "br_if"; readonly label: string }
  | { readonly k: "comment"; readonly text: string };

/** Instructions with an encoding of their own: bytes, operand types, result types. */
export const otherOps = {
  unreachable: [[0x00], "", ""],
  return: [[0x0f], "", ""],
  "memory.size": [[0x3f, 0], "", "i32"],
  "memory.grow": [[0x40, 0], "i32", "i32"],
  /** To, from, bytes; the ranges may overlap. */
  "memory.copy": [[0xfc, 10, 0, 0], "i32 i32 i32", ""],
  /** To, byte, bytes. */
  "memory.fill": [[0xfc, 11, 0], "i32 i32 i32", ""],
  "atomic.fence": [[0xfe, 3, 0], "", ""],
} as const satisfies Record<string, readonly [readonly number[], string, string]>;

export interface Typed {
  readonly name: string;
  readonly type: WasmType;
}

export interface WasmFunc {
  readonly name: string;
  readonly params: readonly Typed[];
  readonly results: readonly WasmType[];
  readonly locals: readonly Typed[];
  readonly body: readonly Instr[];
  readonly exported?: boolean;
  /** For the reader of the text. */
  readonly comment?: readonly string[];
}

export interface WasmGlobal {
  readonly name: string;
  readonly type: "i32" | "i64" | "f32" | "f64";
  readonly mutable: boolean;
  readonly init: number;
  readonly exported?: boolean;
}

/** A function of JavaScript, imported from `env` under its name. */
export interface WasmImport {
  readonly name: string;
  readonly params: readonly WasmType[];
}

/** A module with one memory, imported as `env.memory`. */
export interface WasmModule {
  readonly imports?: readonly WasmImport[];
  /** In pages of 64 KiB. A shared memory has a maximum. */
  readonly memory: {
    readonly initial: number;
    readonly maximum?: number;
    readonly shared: boolean;
    /** Whether addresses have 64 bits. */
    readonly wide?: boolean;
  };
  readonly globals: readonly WasmGlobal[];
  readonly funcs: readonly WasmFunc[];
  /** Bytes written to memory when the module is instantiated. */
  readonly data?: readonly { readonly offset: number; readonly bytes: readonly number[] }[];
}

export interface OpInfo {
  /** The opcode's bytes, prefix included. */
  readonly bytes: readonly number[];
  readonly takes: readonly WasmType[];
  readonly gives: readonly WasmType[];
  readonly lanes: number | null;
  /** Log2 of the natural alignment. */
  readonly align: number | null;
}

const infos = new Map<string, OpInfo>([
  ...infosOf(coreRows, null),
  ...infosOf(saturatingRows, 0xfc),
  ...infosOf(simdRows, 0xfd),
  ...infosOf(relaxedRows, 0xfd),
  ...infosOf(atomicRows, 0xfe),
]);

/** Every instruction of the table. */
export const tableOps = [...infos.keys()] as readonly TableOp[]; // the keys of the rows above

export function opInfo(op: TableOp): OpInfo {
  return infos.get(op)!; // a row for every TableOp
}

function infosOf(table: Readonly<Record<string, Row>>, prefix: number | null): [string, OpInfo][] {
  return Object.entries(table).map(([name, [code, takes, gives, immediate]]) => {
    const [, lanes, align] = /^(?:lane(\d+))?(?:memory(\d))?$/.exec(immediate ?? "") ?? [];
    const number = (text: string | undefined) => (text === undefined ? null : Number(text));
    const bytes = prefix === null ? [code] : [prefix, ...unsignedLeb(code)];
    return [name, { bytes, takes: typesIn(takes), gives: typesIn(gives), lanes: number(lanes), align: number(align) }];
  });
}

/** The types in a text such as "i32 v128". */
export function typesIn(text: string): readonly WasmType[] {
  return text.split(" ").filter((word) => word !== "") as WasmType[]; // the tables are written in these words
}

/** A natural number below 2^53 in LEB128: seven bits a byte, low first, the high bit on all but the last. */
export function unsignedLeb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? low + 128 : low);
  } while (rest > 0);
  return bytes;
}

export const plain = (op: PlainOp): Instr => ({ k: "plain", op });
export const memory = (op: MemoryOp, offset = 0): Instr => ({ k: "memory", op, offset });
export const laneOf = (op: LaneOp, lane: number): Instr => ({ k: "lane", op, lane });
export const i32 = (value: number): Instr => ({ k: "const", type: "i32", value: value | 0 });
export const f32 = (value: number): Instr => ({ k: "const", type: "f32", value });
export const f64 = (value: number): Instr => ({ k: "const", type: "f64", value });
export const i64 = (value: bigint): Instr => ({ k: "const64", value });
export const v128 = (bytes: readonly number[]): Instr => ({ k: "const128", bytes });
export const get = (name: string): Instr => ({ k: "local", op: "local.get", name });
export const set = (name: string): Instr => ({ k: "local", op: "local.set", name });
export const tee = (name: string): Instr => ({ k: "local", op: "local.tee", name });
export const call = (func: string): Instr => ({ k: "call", func });
export const other = (op: keyof typeof otherOps): Instr => ({ k: "other", op });
export const block = (label: string, body: readonly Instr[]): Instr => ({ k: "block", op: "block", label, body });
export const loopBlock = (label: string, body: readonly Instr[]): Instr => ({ k: "block", op: "loop", label, body });
export const branch = (label: string): Instr => ({ k: "branch", op: "br", label });
export const branchIf = (label: string): Instr => ({ k: "branch", op: "br_if", label });

/** Pops a condition; gives the value of the branch taken, of type `result`. */
export function ifElse(result: WasmType | null, yes: readonly Instr[], no: readonly Instr[] = []): Instr {
  // biome-ignore lint/suspicious/noThenProperty: WebAssembly's word; no record is ever awaited
  return { k: "if", result, then: yes, else: no };
}

/** Four equal 32-bit lanes. */
export function splatBits(bits: number): Instr {
  return v128([0, 1, 2, 3].flatMap(() => [bits & 255, (bits >> 8) & 255, (bits >> 16) & 255, (bits >>> 24) & 255]));
}
