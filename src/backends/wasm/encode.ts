/** The binary form of a module: sections of vectors, numbers in LEB128 (WebAssembly Core Specification, chapter 5). */
import { invariant } from "../../ir/errors.ts";
import { type Instr, opInfo, otherOps, unsignedLeb, type WasmFunc, type WasmModule, type WasmType } from "./instr.ts";

const typeBytes: Record<WasmType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

const section = { type: 1, import: 2, function: 3, global: 6, export: 7, code: 10, data: 11 };

/** Encodes a module. Names must be distinct; types are checked by `check.ts` before. */
export function encodeModule(module: WasmModule): Uint8Array<ArrayBuffer> {
  const { funcs, globals, memory, data = [], imports: imported = [] } = module;
  const signatures = new Map<string, number>();
  const types: number[][] = [];
  const typeIndex = (params: readonly WasmType[], results: readonly WasmType[]): number => {
    const bytes = [0x60, ...typeVector(params), ...typeVector(results)];
    const key = bytes.join();
    const known = signatures.get(key) ?? types.push(bytes) - 1;
    signatures.set(key, known);
    return known;
  };
  const typesOf = ({ params }: WasmFunc) => params.map(({ type }) => type);
  const importedFuncs = imported.map(({ name, params }) => [
    ...[...text("env"), ...text(name), 0],
    ...unsignedLeb(typeIndex(params, [])),
  ]);
  const indices = funcs.map((func) => unsignedLeb(typeIndex(typesOf(func), func.results)));
  const first = imported.length;
  const names: Names = {
    funcs: new Map([...imported, ...funcs].map(({ name }, i) => [name, i])),
    globals: new Map(globals.map(({ name }, i) => [name, i])),
  };
  const exports = [
    ...funcs.flatMap(({ name, exported }, i) => (exported ? [[...text(name), 0, ...unsignedLeb(first + i)]] : [])),
    ...globals.flatMap(({ name, exported }, i) => (exported ? [[...text(name), 3, ...unsignedLeb(i)]] : [])),
  ];
  const limits = (memory.maximum === undefined ? 0 : 1) | (memory.shared ? 2 : 0) | (memory.wide ? 4 : 0);
  const maximum = memory.maximum === undefined ? [] : unsignedLeb(memory.maximum);
  const imports = [
    [...text("env"), ...text("memory"), 2, limits, ...unsignedLeb(memory.initial), ...maximum],
    ...importedFuncs,
  ];
  const out = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const add = (id: number, items: readonly (readonly number[])[]) => {
    if (items.length === 0) return;
    const body = vector(items);
    out.push(id, ...unsignedLeb(body.length));
    for (const byte of body) out.push(byte);
  };
  add(section.type, types);
  add(section.import, imports);
  add(section.function, indices);
  add(
    section.global,
    globals.map(({ type, mutable, init }) => [typeBytes[type], mutable ? 1 : 0, ...constant(type, init), 0x0b]),
  );
  add(section.export, exports);
  add(
    section.code,
    funcs.map((func) => encodeFunc(func, names)),
  );
  add(
    section.data,
    data.map(({ offset, bytes }) => [
      0,
      ...(memory.wide ? [0x42, ...signedLeb64(BigInt(offset))] : [0x41, ...signedLeb(offset | 0)]),
      0x0b,
      ...unsignedLeb(bytes.length),
      ...bytes,
    ]),
  );
  // Function names, which engines show in traces and profiles.
  const named = vector([...imported, ...funcs].map(({ name }, i) => [...unsignedLeb(i), ...text(name)]));
  const custom = [...text("name"), 1, ...unsignedLeb(named.length), ...named];
  return Uint8Array.from([...out, 0, ...unsignedLeb(custom.length), ...custom]);
}

interface Names {
  readonly funcs: ReadonlyMap<string, number>;
  readonly globals: ReadonlyMap<string, number>;
}

function encodeFunc(func: WasmFunc, names: Names): number[] {
  const locals = new Map([...func.params, ...func.locals].map(({ name }, i) => [name, i]));
  const out: number[] = [];
  const runs: { type: WasmType; count: number }[] = [];
  for (const { type } of func.locals) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  out.push(...unsignedLeb(runs.length));
  for (const { type, count } of runs) out.push(...unsignedLeb(count), typeBytes[type]);
  encodeBody(func.body, out, { ...names, locals, func: func.name }, []);
  out.push(0x0b);
  return [...unsignedLeb(out.length), ...out];
}

interface Scope extends Names {
  readonly locals: ReadonlyMap<string, number>;
  readonly func: string;
}

/** `labels`: the enclosing blocks, outermost first. */
function encodeBody(body: readonly Instr[], out: number[], scope: Scope, labels: readonly string[]): void {
  for (const instr of body) encodeInstr(instr, out, scope, labels);
}

function encodeInstr(instr: Instr, out: number[], scope: Scope, labels: readonly string[]): void {
  const index = (of: ReadonlyMap<string, number>, name: string) => {
    const found = of.get(name);
    invariant(found !== undefined, () => `there is no ${name}`, `wasm function ${scope.func}`);
    return unsignedLeb(found);
  };
  switch (instr.k) {
    case "plain":
      out.push(...opInfo(instr.op).bytes);
      return;
    case "memory":
    case "lane":
    case "laneMemory": {
      const { bytes, align } = opInfo(instr.op);
      out.push(...bytes);
      if (instr.k !== "lane") out.push(align!, ...unsignedLeb(instr.offset)); // memory instructions have one
      if (instr.k !== "memory") out.push(instr.lane);
      return;
    }
    case "const":
      out.push(...constant(instr.type, instr.value));
      return;
    case "const64":
      out.push(0x42, ...signedLeb64(instr.value));
      return;
    case "const128":
      out.push(0xfd, 0x0c, ...instr.bytes);
      return;
    case "shuffle":
      out.push(0xfd, 0x0d, ...instr.lanes);
      return;
    case "local":
      out.push(
        { "local.get": 0x20, "local.set": 0x21, "local.tee": 0x22 }[instr.op],
        ...index(scope.locals, instr.name),
      );
      return;
    case "global":
      out.push(instr.op === "global.get" ? 0x23 : 0x24, ...index(scope.globals, instr.name));
      return;
    case "call":
      out.push(0x10, ...index(scope.funcs, instr.func));
      return;
    case "other":
      out.push(...otherOps[instr.op][0]);
      return;
    case "select":
      out.push(0x1c, 1, typeBytes[instr.type]);
      return;
    case "block":
      out.push(instr.op === "block" ? 0x02 : 0x03, 0x40);
      encodeBody(instr.body, out, scope, [...labels, instr.label]);
      out.push(0x0b);
      return;
    case "if":
      out.push(0x04, instr.result === null ? 0x40 : typeBytes[instr.result]);
      encodeBody(instr.then, out, scope, [...labels, ""]);
      if (instr.else.length > 0) out.push(0x05);
      encodeBody(instr.else, out, scope, [...labels, ""]);
      out.push(0x0b);
      return;
    case "branch": {
      const depth = labels.length - 1 - labels.lastIndexOf(instr.label);
      invariant(depth < labels.length, () => `there is no label ${instr.label}`, `wasm function ${scope.func}`);
      out.push(instr.op === "br" ? 0x0c : 0x0d, ...unsignedLeb(depth));
      return;
    }
    case "drop":
      out.push(0x1a);
      return;
    case "comment":
      return;
  }
}

function constant(type: "i32" | "i64" | "f32" | "f64", value: number): number[] {
  if (type === "i32") return [0x41, ...signedLeb(value)];
  if (type === "i64") return [0x42, ...signedLeb64(BigInt(value))];
  if (type === "f32") return [0x43, ...new Uint8Array(Float32Array.of(value).buffer)];
  return [0x44, ...new Uint8Array(Float64Array.of(value).buffer)];
}

function typeVector(types: readonly WasmType[]): number[] {
  return [...unsignedLeb(types.length), ...types.map((type) => typeBytes[type])];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsignedLeb(items.length), ...items.flat()];
}

function text(name: string): number[] {
  const bytes = new TextEncoder().encode(name);
  return [...unsignedLeb(bytes.length), ...bytes];
}

/** A 32-bit integer in signed LEB128. */
export function signedLeb(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7) {
    const low = rest & 127;
    const next = rest >> 7;
    if ((next === 0 && low < 64) || (next === -1 && low >= 64)) return [...bytes, low];
    bytes.push(low | 128);
  }
}

function signedLeb64(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = BigInt.asIntN(64, value); ; rest >>= 7n) {
    const low = Number(rest & 127n);
    const next = rest >> 7n;
    if ((next === 0n && low < 64) || (next === -1n && low >= 64)) return [...bytes, low];
    bytes.push(low | 128);
  }
}
