/** The instruction table against the engine, and our own checks against faulty lists. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkModule } from "../../../src/backends/wasm/check.ts";
import { encodeModule } from "../../../src/backends/wasm/encode.ts";
import {
  block,
  branch,
  branchIf,
  call,
  f32,
  f64,
  get,
  type Instr,
  i32,
  i64,
  ifElse,
  loopBlock,
  memory,
  opInfo,
  otherOps,
  plain,
  set,
  splatBits,
  tableOps,
  typesIn,
  v128,
  type WasmFunc,
  type WasmModule,
  type WasmType,
} from "../../../src/backends/wasm/instr.ts";
import { printModule } from "../../../src/backends/wasm/wat.ts";

const moduleOf = (...funcs: WasmFunc[]): WasmModule => ({
  memory: { initial: 1, maximum: 1, shared: true },
  globals: [{ name: "g", type: "i32", mutable: false, init: 7 }],
  funcs,
});
const func = (
  body: readonly Instr[],
  results: readonly WasmType[] = [],
  params: readonly WasmType[] = [],
): WasmFunc => ({
  name: "f",
  params: params.map((type, i) => ({ name: `p${i}`, type })),
  results,
  locals: [],
  body,
  exported: true,
});

function instrOf(op: (typeof tableOps)[number]): Instr {
  const { lanes, align } = opInfo(op);
  const k = lanes === null ? (align === null ? "plain" : "memory") : align === null ? "lane" : "laneMemory";
  const place = align === null ? {} : { offset: 200 };
  return { k, op, ...place, ...(lanes === null ? {} : { lane: lanes - 1 }) } as unknown as Instr; // the kind follows from the immediates
}

describe("every instruction of the table", () => {
  test.each(tableOps)("%s has the types that the engine has", (op) => {
    const { takes, gives } = opInfo(op);
    const module = moduleOf(func([...takes.map((_, i) => get(`p${i}`)), instrOf(op)], gives, takes));
    checkModule(module);
    const bytes = encodeModule(module);
    expect(() => new WebAssembly.Module(bytes)).not.toThrow();
    // With a result of another type it is not valid, so the row's result is the engine's.
    const wrong = gives.length === 0 ? (["i32"] as const) : ([gives[0] === "i64" ? "i32" : "i64"] as const);
    expect(
      WebAssembly.validate(
        encodeModule(moduleOf(func([...takes.map((_, i) => get(`p${i}`)), instrOf(op)], wrong, takes))),
      ),
    ).toBe(false);
    expect(printModule(module)).toContain(op);
  });

  test.each(Object.entries(otherOps))("%s", (_op, [, takes, gives]) => {
    const params = typesIn(takes);
    const op = _op as keyof typeof otherOps; // the keys of the table
    const module = moduleOf(func([...params.map((_, i) => get(`p${i}`)), { k: "other", op }], typesIn(gives), params));
    checkModule(module);
    expect(WebAssembly.validate(encodeModule(module))).toBe(true);
  });
});

test("control structure, calls and constants print with their names and run", () => {
  const sum: WasmFunc = {
    name: "sum_below",
    params: [{ name: "n", type: "i32" }],
    results: ["i32"],
    locals: [
      { name: "i", type: "i32" },
      { name: "total", type: "i32" },
    ],
    exported: true,
    comment: ["0 + 1 + ... + n - 1"],
    body: [
      block("done", [
        get("n"),
        plain("i32.eqz"),
        branchIf("done"),
        loopBlock("next", [
          get("total"),
          get("i"),
          plain("i32.add"),
          set("total"),
          get("i"),
          i32(1),
          plain("i32.add"),
          { k: "local", op: "local.tee", name: "i" },
          get("n"),
          plain("i32.lt_s"),
          branchIf("next"),
          branch("done"),
        ]),
      ]),
      get("total"),
    ],
  };
  const seven: WasmFunc = func(
    [
      i32(-7),
      i32(-8),
      get("p0"),
      { k: "select", type: "i32" },
      call("sum_below"),
      { k: "global", op: "global.get", name: "g" },
      plain("i32.add"),
    ],
    ["i32"],
    ["i32"],
  );
  const module = moduleOf(sum, seven);
  checkModule(module);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(encodeModule(module)), { env: { memory } });
  const { sum_below, f } = exports as Record<string, (x: number) => number>;
  expect([sum_below!(0), sum_below!(1), sum_below!(100)]).toEqual([0, 0, 4950]);
  expect(f!(1)).toBe(7);
  expect(printModule(module)).toMatchInlineSnapshot(`
    "(module
      (import "env" "memory" (memory 1 1 shared))
      (global $g i32 (i32.const 7))
      ;; 0 + 1 + ... + n - 1
      (func $sum_below (export "sum_below") (param $n i32) (result i32)
        (local $i i32)
        (local $total i32)
        block $done
          local.get $n
          i32.eqz
          br_if $done
          loop $next
            local.get $total
            local.get $i
            i32.add
            local.set $total
            local.get $i
            i32.const 1
            i32.add
            local.tee $i
            local.get $n
            i32.lt_s
            br_if $next
            br $done
          end
        end
        local.get $total
      )
      (func $f (export "f") (param $p0 i32) (result i32)
        i32.const -7
        i32.const -8
        local.get $p0
        select (result i32)
        call $sum_below
        global.get $g
        i32.add
      )
    )
    "
  `);
});

test.each<[string, Instr[], WasmType[], string]>([
  ["a wrong operand", [i32(1), f32(1), plain("i32.add")], ["i32"], "i32.add: expected i32, got f32"],
  ["an empty stack", [plain("f64.neg")], ["f64"], "f64.neg: expected f64, got an empty stack"],
  ["a value left", [i32(1), i32(2)], ["i32"], "the function's end: leaves i32 behind"],
  ["an operand of an outer block", [i32(1), block("b", [plain("i32.eqz"), set("x")])], [], "i32.eqz: expected i32"],
  ["an unknown local", [get("nothing")], [], "local.get $nothing: no nothing"],
  ["an unknown label", [branch("nowhere")], [], "br $nowhere: no label nowhere"],
  ["an unknown function", [call("g")], [], "call $g: no g"],
  ["a constant global", [i32(1), { k: "global", op: "global.set", name: "g" }], [], "the global is constant"],
  ["a lane", [splatBits(0), { k: "lane", op: "f32x4.extract_lane", lane: 4 }], ["f32"], "there are 4"],
  ["a vector's length", [v128([1, 2])], ["v128"], "expected 16 bytes"],
  ["a value without else", [i32(1), ifElse("i32", [i32(1)])], ["i32"], "has no else"],
  ["an offset", [i32(0), memory("i32.load", -4)], ["i32"], "the offset is no u32"],
])("our check finds %s before the engine does", (_what, body, results, message) => {
  const module = moduleOf(func(body, results));
  expect(() => checkModule(module)).toThrow(message);
  expect(() => checkModule(module)).toThrow("wasm function f");
});

test("code after a branch may pop anything, as the engine allows", () => {
  const module = moduleOf(
    func([block("b", [branch("b"), plain("i32.add"), plain("f32.convert_i32_s"), set("p0")])], [], ["f32"]),
  );
  checkModule(module);
  expect(WebAssembly.validate(encodeModule(module))).toBe(true);
});

/** A random expression as instructions and as a number. */
interface Tree {
  readonly code: readonly Instr[];
  readonly value: number;
}
const arbI32 = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    fc.integer().map((value) => ({ code: [i32(value)], value })),
    fc
      .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
      .map((value) => ({ code: [i64(value), plain("i32.wrap_i64")], value: Number(BigInt.asIntN(32, value)) })),
    fc
      .tuple(fc.constantFrom("add", "sub", "mul", "and", "xor", "shl", "lt_s"), tie("tree"), tie("tree"))
      .map(([name, a, b]) => ({
        code: [...a.code, ...b.code, plain(`i32.${name as "add"}`)],
        value: {
          add: (a.value + b.value) | 0,
          sub: (a.value - b.value) | 0,
          mul: Math.imul(a.value, b.value),
          and: a.value & b.value,
          xor: a.value ^ b.value,
          shl: a.value << b.value,
          lt_s: Number(a.value < b.value),
        }[name]!,
      })),
    fc.tuple(tie("tree"), tie("tree"), tie("tree")).map(([c, a, b]) => ({
      code: [...c.code, ifElse("i32", a.code, b.code)],
      value: c.value !== 0 ? a.value : b.value,
    })),
  ),
})).tree;
const arbF64 = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    fc.double().map((value) => ({ code: [f64(value)], value })),
    fc
      .tuple(fc.constantFrom("add", "sub", "mul", "div", "min", "max"), tie("tree"), tie("tree"))
      .map(([name, a, b]) => ({
        code: [...a.code, ...b.code, plain(`f64.${name as "add"}`)],
        value: {
          add: a.value + b.value,
          sub: a.value - b.value,
          mul: a.value * b.value,
          div: a.value / b.value,
          min: Math.min(a.value, b.value),
          max: Math.max(a.value, b.value),
        }[name]!,
      })),
    tie("tree").map((a) => ({
      code: [...a.code, plain("f32.demote_f64"), plain("f64.promote_f32")],
      value: Math.fround(a.value),
    })),
  ),
})).tree;

test.each([
  ["i32", arbI32],
  ["f64", arbF64],
] as const)("random %s expressions encode, check, validate and compute what JavaScript does", (type, arb) => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  fc.assert(
    fc.property(arb, ({ code, value }) => {
      const module = moduleOf(func(code, [type]));
      checkModule(module);
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(encodeModule(module)), { env: { memory } });
      const run = exports.f as () => number;
      expect(run()).toBe(value);
    }),
    { numRuns: 200 },
  );
});
