/**
 * Type checking of a module before an engine sees it, so that a fault in emission names the function and instruction.
 * The algorithm is that of the specification's appendix: a stack of types, and per block the height it began at; code
 * after an unconditional branch may pop anything.
 */
import { InternalError } from "../../ir/errors.ts";
import { type Instr, opInfo, otherOps, typesIn, type WasmFunc, type WasmModule, type WasmType } from "./instr.ts";
import { showInstr } from "./wat.ts";

interface Signature {
  readonly params: readonly WasmType[];
  readonly results: readonly WasmType[];
}

interface Context {
  readonly func: WasmFunc;
  readonly address: "i32" | "i64";
  readonly locals: ReadonlyMap<string, WasmType>;
  readonly globals: ReadonlyMap<string, { readonly type: WasmType; readonly mutable: boolean }>;
  readonly funcs: ReadonlyMap<string, Signature>;
}

/** Throws an InternalError that names the function and the instruction at fault. */
export function checkModule(module: WasmModule): void {
  const typesOf = (func: WasmFunc) => func.params.map(({ type }) => type);
  const imports = module.imports ?? [];
  const address = module.memory.wide ? "i64" : "i32";
  const funcs = new Map<string, Signature>([
    ...imports.map(({ name, params }) => [name, { params, results: [] }] as const),
    ...module.funcs.map((func) => [func.name, { params: typesOf(func), results: func.results }] as const),
  ]);
  const globals = new Map(module.globals.map((global) => [global.name, global]));
  if (funcs.size !== module.funcs.length + imports.length)
    throw new InternalError("wasm module", "two functions have one name");
  if (globals.size !== module.globals.length) throw new InternalError("wasm module", "two globals have one name");
  for (const func of module.funcs) {
    const typed = [...func.params, ...func.locals];
    const locals = new Map(typed.map(({ name, type }) => [name, type]));
    if (locals.size !== typed.length) throw new InternalError(`wasm function ${func.name}`, "two locals have one name");
    const block: Block = {
      context: { func, address, locals, globals, funcs },
      labels: [],
      stack: [],
      floor: 0,
      dead: false,
    };
    checkBody(block, func.body);
    popAll(block, func.results, "the function's end");
    if (block.stack.length > 0) fail(block, "the function's end", `leaves ${block.stack.join(" ")} behind`);
  }
}

interface Block {
  readonly context: Context;
  readonly labels: readonly string[];
  readonly stack: WasmType[];
  /** Values below this belong to an outer block. */
  readonly floor: number;
  /** Whether control never gets here. */
  dead: boolean;
}

function fail(block: Block, at: string, what: string): never {
  throw new InternalError(`wasm function ${block.context.func.name}`, `${at}: ${what}`);
}

function pop(block: Block, want: WasmType, at: string): void {
  if (block.stack.length === block.floor) {
    if (!block.dead) fail(block, at, `expected ${want}, got an empty stack`);
    return;
  }
  const got = block.stack.pop();
  if (got !== want) fail(block, at, `expected ${want}, got ${got}`);
}

function popAll(block: Block, types: readonly WasmType[], at: string): void {
  for (let i = types.length - 1; i >= 0; i--) pop(block, types[i]!, at);
}

/** Runs code that never comes back: whatever the stack holds is dropped. */
function kill(block: Block): void {
  block.stack.length = block.floor;
  block.dead = true;
}

function checkBody(block: Block, body: readonly Instr[]): void {
  for (const instr of body) checkInstr(block, instr);
}

function checkInner(
  outer: Block,
  body: readonly Instr[],
  label: string,
  results: readonly WasmType[],
  at: string,
): void {
  const { context, labels, stack } = outer;
  const inner: Block = { context, labels: [...labels, label], stack, floor: stack.length, dead: false };
  checkBody(inner, body);
  popAll(inner, results, `the end of ${at}`);
  if (stack.length > inner.floor)
    fail(inner, `the end of ${at}`, `leaves ${stack.slice(inner.floor).join(" ")} behind`);
}

function checkInstr(block: Block, instr: Instr): void {
  const { context, stack } = block;
  const at = showInstr(instr);
  const apply = (takes: readonly WasmType[], gives: readonly WasmType[]) => {
    popAll(block, takes, at);
    stack.push(...gives);
  };
  const find = <T>(map: ReadonlyMap<string, T>, name: string): T => map.get(name) ?? fail(block, at, `no ${name}`);
  const inRange = (value: number, end: number) => Number.isInteger(value) && value >= 0 && value < end;
  switch (instr.k) {
    case "plain":
    case "memory":
    case "lane":
    case "laneMemory": {
      const { takes, gives, lanes } = opInfo(instr.op);
      apply(instr.k === "memory" || instr.k === "laneMemory" ? [context.address, ...takes.slice(1)] : takes, gives);
      if ("lane" in instr && !inRange(instr.lane, lanes ?? 0)) fail(block, at, `no such lane, there are ${lanes}`);
      if ("offset" in instr && !inRange(instr.offset, 2 ** 32)) fail(block, at, "the offset is no u32");
      return;
    }
    case "const":
      stack.push(instr.type);
      return;
    case "const64":
      stack.push("i64");
      return;
    case "const128":
      if (instr.bytes.length !== 16) fail(block, at, "expected 16 bytes");
      stack.push("v128");
      return;
    case "shuffle":
      if (instr.lanes.length !== 16 || !instr.lanes.every((lane) => inRange(lane, 32))) {
        fail(block, at, "expected 16 lanes below 32");
      }
      apply(["v128", "v128"], ["v128"]);
      return;
    case "local": {
      const type = find(context.locals, instr.name);
      apply(instr.op === "local.get" ? [] : [type], instr.op === "local.set" ? [] : [type]);
      return;
    }
    case "global": {
      const { type, mutable } = find(context.globals, instr.name);
      if (instr.op === "global.set" && !mutable) fail(block, at, "the global is constant");
      apply(instr.op === "global.get" ? [] : [type], instr.op === "global.get" ? [type] : []);
      return;
    }
    case "call": {
      const { params, results } = find(context.funcs, instr.func);
      apply(params, results);
      return;
    }
    case "other": {
      if (instr.op === "return") popAll(block, context.func.results, at);
      const [, takes, gives] = otherOps[instr.op];
      const ofMemory = instr.op.startsWith("memory.");
      const widened = (types: readonly WasmType[]) => types.map((type) => (ofMemory ? context.address : type));
      const [taken, given] = [widened(typesIn(takes)), widened(typesIn(gives))];
      apply(instr.op === "memory.fill" ? taken.with(1, "i32") : taken, given);
      if (instr.op === "return" || instr.op === "unreachable") kill(block);
      return;
    }
    case "select":
      apply([instr.type, instr.type, "i32"], [instr.type]);
      return;
    case "block":
      checkInner(block, instr.body, instr.label, [], at);
      return;
    case "if": {
      pop(block, "i32", at);
      const results = instr.result === null ? [] : [instr.result];
      if (results.length > 0 && instr.else.length === 0) fail(block, at, "gives a value and has no else");
      checkInner(block, instr.then, "", results, at);
      checkInner(block, instr.else, "", results, `${at} else`);
      stack.push(...results);
      return;
    }
    case "branch":
      if (instr.label === "" || !block.labels.includes(instr.label)) fail(block, at, `no label ${instr.label}`);
      if (instr.op === "br_if") pop(block, "i32", at);
      else kill(block);
      return;
    case "drop":
      if (block.stack.length > block.floor) block.stack.pop();
      else if (!block.dead) fail(block, at, "an empty stack");
      return;
    case "comment":
      return;
  }
}
