/**
 * Kernels as WebAssembly functions: buffers are byte addresses, in their order, then the range of the grid loop where a
 * launch can be divided. Scratch lies in the thread's own memory, at the global `scratch`.
 */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import type { For, Kernel, Stmt, Store } from "../../ir/kernel/kernel.ts";
import { afterStmt, assume, factsOf, insideLoop, rangeOf } from "../../ir/kernel/range.ts";
import { isPackedValue, storageBits, type ValueType } from "../../ir/kernel/value.ts";
import { globalBufs, gridLoop, writesOf } from "../../ir/kernel/walk.ts";
import { dtypeInfo } from "../../ir/types.ts";
import { addressOf, loopPointers, nibbleAddress } from "./address.ts";
import { type AddressType, narrow } from "./address-type.ts";
import { apply, assign, type Code, int, local } from "./code.ts";
import { hoistConstants } from "./constants.ts";
import { elementBytes, emitPart, emitScalar } from "./expr.ts";
import { bufOf, type Frame, kindOf, Locals, partsOf, wasmTypeOf } from "./frame.ts";
import {
  block,
  branchIf,
  get,
  type Instr,
  ifElse,
  laneOf,
  loopBlock,
  type MemoryOp,
  memory,
  plain,
  set,
  type Typed,
  type WasmFunc,
} from "./instr.ts";
import type { Rules } from "./rules.ts";
import { narrowCode, narrowVector, storeCode, storeNibble, storeVector } from "./storage.ts";

const gridBegin = "grid.begin";
const gridEnd = "grid.end";

export interface WasmKernel {
  readonly kernel: Kernel;
  readonly func: WasmFunc;
  /** Bytes of scratch that a thread needs for it. */
  readonly scratchBytes: number;
  /** The values of the grid variable, where the function takes a range of them. */
  readonly grid: { readonly from: number; readonly to: number; readonly step: number } | undefined;
  /** Whether different threads may run different ranges at once. */
  readonly divides: boolean;
}

/** Emits a kernel as a function of this name. Throws UnsupportedError for barriers and vectors the target lacks. */
export function emitKernel(kernel: Kernel, name: string, rules: Rules, address: AddressType = narrow): WasmKernel {
  const globals = globalBufs(kernel);
  const grid = gridLoop(kernel);
  const range = grid === undefined ? [] : [gridBegin, gridEnd];
  const params: Typed[] = [
    ...globals.map((buf): Typed => ({ name: buf.name, type: address.type })),
    ...range.map((each): Typed => ({ name: each, type: "i32" })),
  ];
  const locals = new Locals(params.map((param) => param.name));
  let scratchBytes = 0;
  const start: Code[] = [];
  for (const buf of kernel.bufs) {
    if (buf.space !== "scratch") continue;
    const base = locals.make(buf.name, address.type);
    const all: Code = [{ k: "global", op: "global.get", name: "scratch" }];
    start.push(assign(base, apply(address.add, all, address.constant(scratchBytes))));
    scratchBytes += Math.ceil((buf.size * storageBits(buf.dtype)) / 8 / 64) * 64;
  }
  const facts = factsOf(kernel);
  const frame: Frame = { locals, rules, address, facts, names: new Map(), pointers: [], scalar: emitScalar };
  const body = [...start.flat(), ...emitBlock(frame, kernel.body, grid?.loop)];
  const func = hoistConstants({
    name,
    params,
    results: [],
    locals: locals.made,
    body,
    comment: kernel.origin,
    exported: true,
  });
  return {
    kernel,
    func,
    scratchBytes,
    grid: grid && { from: grid.from, to: grid.to, step: grid.loop.step },
    divides: grid !== undefined && isDivisible(kernel, grid.loop),
  };
}

/** Outside the grid loop only scratch may be written, and no two iterations may share a byte. */
function isDivisible(kernel: Kernel, loop: For): boolean {
  const outside = writesOf(kernel.body.filter((stmt) => stmt !== loop)).bufs;
  const written = writesOf(kernel.body).bufs;
  return kernel.bufs.every(
    ({ name, space, dtype }) =>
      space === "scratch" || (!outside.has(name) && !(written.has(name) && storageBits(dtype) === 4)),
  );
}

function emitBlock(outer: Frame, stmts: readonly Stmt[], grid?: For): Code {
  const names = new Map(outer.names);
  let frame: Frame = { ...outer, names };
  const code: Instr[] = [];
  for (const stmt of stmts) {
    code.push(...emitStmt(frame, names, stmt, grid));
    frame = { ...frame, facts: afterStmt(stmt, frame.facts) };
  }
  return code;
}

function makeLocals(frame: Frame, name: string, type: ValueType): readonly string[] {
  const count = partsOf(type);
  return Array.from({ length: count }, (_, i) =>
    frame.locals.make(count === 1 ? name : `${name}.${i}`, wasmTypeOf(type)),
  );
}

/** `names` is the block's own table, to which lets and vars are added. */
function emitStmt(frame: Frame, names: Map<string, readonly string[]>, stmt: Stmt, grid?: For): Code {
  switch (stmt.k) {
    case "let":
    case "var": {
      const value = stmt.k === "let" ? stmt.value : stmt.init;
      const targets = makeLocals(frame, stmt.name, value.type);
      const code = targets.flatMap((target, part) => assign(target, emitPart(frame, value, part)));
      names.set(stmt.name, targets);
      return code;
    }
    case "set": {
      const targets = frame.names.get(stmt.name)!; // verified: K1
      // All parts are computed before any is set, since the value may read the variable.
      const parts = targets.map((_, part) => emitPart(frame, stmt.value, part));
      return [...parts.flat(), ...targets.map(set).reverse()];
    }
    case "store":
      return emitStore(frame, stmt);
    case "for":
      return emitLoop(frame, stmt, stmt === grid);
    case "if": {
      const inner = (truth: boolean, body: readonly Stmt[]) =>
        emitBlock({ ...frame, facts: assume(stmt.cond, truth, frame.facts) }, body);
      return [...emitScalar(frame, stmt.cond), ifElse(null, inner(true, stmt.then), inner(false, stmt.else))];
    }
    case "barrier":
    case "combine":
    case "multiply":
      throw new UnsupportedError("kernel", "the WebAssembly backend has no barriers in kernels");
    case "note":
      return [{ k: "comment", text: stmt.text }];
  }
}

/** The range is evaluated once; the test stands at the end, since most loops run. */
function emitLoop(outer: Frame, loop: For, isGrid: boolean): Code {
  const variable = outer.locals.make(loop.name, "i32");
  const end = outer.locals.make(`${loop.name}.end`, "i32");
  const inside = insideLoop(loop, outer.facts);
  const frame = { ...outer, names: new Map(outer.names).set(loop.name, [variable]) };
  const { start, advance, pointers } = loopPointers(frame, loop, inside);
  const body = emitBlock({ ...frame, facts: inside, pointers: [...frame.pointers, pointers] }, loop.body);
  const constant = loop.to.k === "num" && !isGrid;
  const limit = constant ? int(loop.to.k === "num" ? loop.to.value : 0) : local(end);
  const hi = rangeOf(loop.to, outer.facts).hi;
  const step = assign(variable, apply("i32.add", local(variable), int(loop.step)));
  // Near the largest integer the sum would wrap, so the distance to the end is compared instead.
  const more: Code =
    hi + loop.step <= 2147483647
      ? [...step, ...apply("i32.lt_s", local(variable), limit), branchIf(`${variable}.next`)]
      : [
          ...apply("i32.sub", apply("i32.sub", limit, local(variable)), int(1)),
          ...step,
          ...int(loop.step),
          plain("i32.ge_u"),
          branchIf(`${variable}.next`),
        ];
  return [
    ...assign(variable, isGrid ? local(gridBegin) : emitScalar(outer, loop.from)),
    ...(constant ? [] : assign(end, isGrid ? local(gridEnd) : emitScalar(outer, loop.to))),
    block(`${variable}.done`, [
      ...apply("i32.ge_s", local(variable), limit),
      branchIf(`${variable}.done`),
      ...start,
      loopBlock(`${variable}.next`, [...body, ...advance, ...more]),
    ]),
  ];
}

function emitStore(frame: Frame, stmt: Store): Code {
  const { dtype } = bufOf(frame, stmt.buf);
  const { temp } = frame.locals;
  const { value, index } = stmt;
  const from = value.type.dtype;
  const range = dtype === "f64" ? undefined : dtypeInfo(dtype).range;
  const known = rangeOf(value, frame.facts);
  const fits =
    range === undefined || (known.lo >= range[0] && known.hi <= range[1]) || dtypeInfo(dtype as "i32").bits === 32;
  if (value.type.lanes === 1) {
    const narrowed = [...emitScalar(frame, value), ...narrowCode(dtype, from, fits, temp)];
    if (dtype === "i4" || dtype === "u4") {
      return [
        ...nibbleAddress(frame, stmt.buf, index),
        ...emitScalar(frame, index),
        ...narrowed,
        ...storeNibble(temp, frame.address.type),
      ];
    }
    const { code, offset } = addressOf(frame, stmt.buf, index);
    return [...code, ...narrowed, ...storeCode(dtype, offset)];
  }
  if (isPackedValue(from)) {
    const { code, offset } = addressOf(frame, stmt.buf, index);
    return [...code, ...emitPart(frame, value, 0), memory(byteStore(value.type.lanes), offset)];
  }
  if (dtype === "i4" || dtype === "u4" || dtype === "f64") {
    throw new UnsupportedError("kernel", `a vector store to ${dtype} in WebAssembly`);
  }
  const size = elementBytes(dtype);
  const { code, offset } = addressOf(frame, stmt.buf, index);
  const parts = Array.from({ length: partsOf(value.type) }, (_, i) => i);
  // All parts are computed before any is stored, since the value may read the buffer.
  const held = parts.map(() => temp("v128"));
  const computed = parts.flatMap((part) => [...emitPart(frame, value, part), set(held[part]!)]);
  const stored = parts.flatMap((part): Code => {
    const at = offset + 4 * part * size;
    const whole = storeVector(dtype, at);
    if (whole !== undefined) return [...code, get(held[part]!), ...whole];
    if (dtype === "i8" || dtype === "u8") {
      const lane: Instr = { k: "laneMemory", op: "v128.store32_lane", offset: at, lane: 0 };
      return [...code, get(held[part]!), ...narrowVector(dtype, temp), lane];
    }
    return [0, 1, 2, 3].flatMap((lane) => [
      ...code,
      get(held[part]!),
      ...takeScalar(value.type, lane),
      ...narrowCode(dtype, from, fits, temp),
      ...storeCode(dtype, at + lane * size),
    ]);
  });
  return [...computed, ...stored];
}

function byteStore(lanes: number): MemoryOp {
  if (lanes === 16) return "v128.store";
  throw new UnsupportedError("kernel", `a store of ${lanes} bytes as a vector in WebAssembly`);
}

function takeScalar(type: ValueType, lane: number): Code {
  const kind = kindOf(type);
  if (kind === "f32x4") return [laneOf("f32x4.extract_lane", lane)];
  const taken = laneOf("i32x4.extract_lane", lane);
  if (kind === "i32x4" || kind === "u32x4") return [taken];
  if (kind === "boolx4") return [taken, ...int(1), plain("i32.and")];
  throw new InternalError("kernel", `lanes of ${kind}`);
}
