/** The text form of a module, with the names that the emitter gave: one instruction a line, blocks indented. */
import type { Instr, WasmFunc, WasmModule } from "./instr.ts";

export function printModule(module: WasmModule): string {
  const { memory, globals, funcs, data = [], imports = [] } = module;
  const limits = [memory.initial, memory.maximum, memory.shared ? "shared" : undefined].filter((x) => x !== undefined);
  const address = memory.wide ? "i64 " : "";
  const lines = [
    `  (import "env" "memory" (memory ${address}${limits.join(" ")}))`,
    ...imports.map(({ name, params }) => {
      const taken = params.length === 0 ? "" : ` (param ${params.join(" ")})`;
      return `  (import "env" ${JSON.stringify(name)} (func $${name}${taken}))`;
    }),
    ...globals.map(({ name, type, mutable, init, exported }) => {
      const written = mutable ? `(mut ${type})` : type;
      const out = exported ? ` (export ${JSON.stringify(name)})` : "";
      return `  (global $${name}${out} ${written} (${type}.const ${showFloat(init)}))`;
    }),
    ...funcs.flatMap((func) =>
      printFunc(func)
        .split("\n")
        .map((line) => `  ${line}`),
    ),
    ...data.map(
      ({ offset, bytes }) => `  (data (${memory.wide ? "i64" : "i32"}.const ${offset}) "${bytes.map(hex).join("")}")`,
    ),
  ];
  return `(module\n${lines.join("\n")}\n)\n`;
}

export function printFunc(func: WasmFunc): string {
  const typed = (word: string) => (each: { name: string; type: string }) => ` (${word} $${each.name} ${each.type})`;
  const head = [
    `(func $${func.name}`,
    func.exported ? ` (export ${JSON.stringify(func.name)})` : "",
    ...func.params.map(typed("param")),
    func.results.length === 0 ? "" : ` (result ${func.results.join(" ")})`,
  ].join("");
  return [
    ...(func.comment ?? []).map((line) => `;; ${line.replaceAll(/[\r\n]/g, " ")}`),
    head,
    ...func.locals.map((each) => ` ${typed("local")(each)}`),
    ...printBody(func.body, "  "),
    ")",
  ].join("\n");
}

function printBody(body: readonly Instr[], indent: string): string[] {
  return body.flatMap((instr) => {
    const inner = (each: readonly Instr[]) => printBody(each, `${indent}  `);
    if (instr.k === "block") {
      return [`${indent}${instr.op} $${instr.label}`, ...inner(instr.body), `${indent}end`];
    }
    if (instr.k === "if") {
      const other = instr.else.length === 0 ? [] : [`${indent}else`, ...inner(instr.else)];
      const result = instr.result === null ? "" : ` (result ${instr.result})`;
      return [`${indent}if${result}`, ...inner(instr.then), ...other, `${indent}end`];
    }
    return [`${indent}${showInstr(instr)}`];
  });
}

/** One instruction, without what a block contains. */
export function showInstr(instr: Instr): string {
  const offset = (at: number) => (at === 0 ? "" : ` offset=${at}`);
  switch (instr.k) {
    case "plain":
    case "other":
      return instr.op;
    case "memory":
      return `${instr.op}${offset(instr.offset)}`;
    case "lane":
      return `${instr.op} ${instr.lane}`;
    case "laneMemory":
      return `${instr.op}${offset(instr.offset)} ${instr.lane}`;
    case "const":
      return `${instr.type}.const ${instr.type === "i32" ? instr.value : showFloat(instr.value)}`;
    case "const64":
      return `i64.const ${instr.value}`;
    case "const128":
      return `v128.const i8x16 ${instr.bytes.join(" ")}`;
    case "shuffle":
      return `i8x16.shuffle ${instr.lanes.join(" ")}`;
    case "local":
    case "global":
      return `${instr.op} $${instr.name}`;
    case "call":
      return `call $${instr.func}`;
    case "select":
      return `select (result ${instr.type})`;
    case "block":
      return `${instr.op} $${instr.label}`;
    case "if":
    case "drop":
      return instr.k;
    case "branch":
      return `${instr.op} $${instr.label}`;
    case "comment":
      return `;; ${instr.text.replaceAll(/[\r\n]/g, " ")}`;
  }
}

function showFloat(value: number): string {
  if (Object.is(value, -0)) return "-0";
  return Number.isNaN(value) ? "nan" : `${value}`.replace("Infinity", "inf");
}

function hex(byte: number): string {
  return `\\${byte.toString(16).padStart(2, "0")}`;
}
