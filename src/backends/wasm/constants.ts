/** Constants of 128 bits are set once at a function's start: engines build them anew wherever they stand. */
import { get, type Instr, set, type WasmFunc } from "./instr.ts";

/** All zeros or all ones cost one instruction without operands anywhere, and no register. */
const isCheap = (bytes: readonly number[]): boolean =>
  bytes.every((byte) => byte === bytes[0]) && [0, 255].includes(bytes[0]!);

export function hoistConstants(func: WasmFunc): WasmFunc {
  const names = new Map<string, { readonly name: string; readonly instr: Instr }>();
  const replace = (instr: Instr): Instr => {
    if (instr.k === "block") return { ...instr, body: instr.body.map(replace) };
    // biome-ignore lint/suspicious/noThenProperty: WebAssembly's word; no record is ever awaited
    if (instr.k === "if") return { ...instr, then: instr.then.map(replace), else: instr.else.map(replace) };
    if (instr.k !== "const128" || isCheap(instr.bytes)) return instr;
    const key = instr.bytes.join();
    const known = names.get(key) ?? { name: `constant ${names.size}`, instr };
    names.set(key, known);
    return get(known.name);
  };
  const body = func.body.map(replace);
  const made = [...names.values()];
  const locals = [...func.locals, ...made.map(({ name }) => ({ name, type: "v128" as const }))];
  return { ...func, locals, body: [...made.flatMap(({ name, instr }) => [instr, set(name)]), ...body] };
}
