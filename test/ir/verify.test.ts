/** Each invariant has a program that breaks it and nothing else, and the message that says so. */
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { IrError } from "../../src/ir/errors.ts";
import { Builder, type Func, type Module, makeModule, type Node } from "../../src/ir/graph.ts";
import { invariants } from "../../src/ir/invariants.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { type Invariant, inPlace, noComposites, verifyModule } from "../../src/ir/verify.ts";

const one = (func: Func) => makeModule("m", [func], func.name);

/** A module of the functions in `text`, the entry called main. */
const parsed = (text: string) => parseModule(`module @m entry @main {\n${text}\n}`);

/** A node changed behind the Builder's back. */
const forged = (node: Node, changes: Record<string, unknown>): Node => ({ ...node, ...changes }) as Node; // that is the point

const builder = new Builder();
const m = maths(builder);
const x = builder.param("x", "f32", [2, 3]);
const main = (...outs: Node[]): Func => ({ name: "main", params: [x], outs });

const layered = `func @block(%x: f32[2]) {
  %w: f32[2] = weight {name="layers.{layer}.w"}
  %y: f32[2] = add %x, %w
  return %y
}`;

const cases: [id: string, module: Module, message: RegExp][] = [
  [
    "V1",
    one(main(forged(m.exp(x), { id: -1 }))),
    /^@main: an operand \(param\) is newer than its user exp, against V1 order/,
  ],
  [
    "V2",
    one({ name: "main", params: [x, builder.param("x", "f32", [1])], outs: [] }),
    /two parameters are called "x", against V2/,
  ],
  [
    "V2",
    one({ name: "main", params: [], outs: [m.exp(x)] }),
    /^@main: "x" is not a parameter of this function, against V2.*\n> +%x: f32\[2,3\] = param/s,
  ],
  [
    "V3",
    one(main(forged(m.exp(x), { type: { dtype: "f32", shape: [3, 2] } }))),
    /type f32\[3,2\] but exp gives f32\[2,3\], against V3/,
  ],
  ["V3", one(main(forged(m.exp(x), { op: "expp" }))), /unknown op expp, against V3/],
  ["V3", one(main(forged(m.exp(x), { ins: [x, x] }))), /exp: expected 1 operands, got 2, against V3/],
  [
    "V3",
    one(main(forged(m.transpose(x, [1, 0]), { attrs: { perm: [1, 1] } }))),
    /transpose: expected a rank that \[1,1\] permutes/,
  ],
  ["V3", one(main(forged(m.exp(x), { attrs: { axis: 1 } }))), /exp: unknown attribute axis, against V3/],
  [
    "V4",
    parsed("func @main(%x: f32[]) {\n%0: f32[] = call @main %x\nreturn %0\n}"),
    /@main does not come before @main, against V4/,
  ],
  [
    "V4",
    parsed("func @main(%x: f32[]) {\n%0: f32[] = call @f %x\nreturn %0\n}\nfunc @f(%x: f32[]) {\nreturn %x\n}"),
    /@f does not come before @main, against V4/,
  ],
  ["V4", parsed("func @main() {\n%0: f32[] = call @g\nreturn %0\n}"), /there is no function @g, against V4/],
  [
    "V5",
    parsed("func @f(%x: f32[2]) {\nreturn %x\n}\nfunc @main(%x: f32[]) {\n%0: f32[2] = call @f %x\nreturn %0\n}"),
    /@f takes \(f32\[2\]\), got \(f32\[\]\), against V5/,
  ],
  [
    "V5",
    parsed("func @f(%x: f32[2]) {\nreturn %x\n}\nfunc @main(%x: f32[2]) {\n%0: f32[1] = call @f %x\nreturn %0\n}"),
    /result 0 of @f -> \(f32\[2\]\) is declared f32\[1\], against V5/,
  ],
  [
    "V5",
    parsed(
      "func @f(%x: f32[2]) {\nreturn %x\n}\nfunc @main(%x: f32[2]) {\n%0: f32[2] = call @f %x {result=1}\nreturn %0\n}",
    ),
    /result 1 of @f/,
  ],
  ["V6", makeModule("m", [main(x)], "start"), /^module @m: there is no function @start, against V6 entry/],
  ["V6", { name: "m", entry: "a", funcs: new Map([["a", main(x)]]) }, /@main is filed under "a", against V6/],
  [
    "V7",
    parsed(`${layered}\nfunc @main(%x: f32[2]) {\n%0: f32[2] = call @block %x\nreturn %0\n}`),
    /the call of @block has no layer for "layers\.\{layer\}\.w", against V7/,
  ],
  [
    "V7",
    parsed(`${layered}\nfunc @main(%x: f32[2]) {\n%0: f32[2] = call @block %x {layer=-1}\nreturn %0\n}`),
    /layer -1 is below 0, against V7/,
  ],
  ["V7", parsed(layered.replace("@block", "@main")), /\{layer\} in a weight of the entry has no value, against V7/],
  [
    "V8",
    parsed('func @main() {\n%0: f32[2] = weight {name="w"}\n%1: f32[3] = weight {name="w"}\nreturn %0, %1\n}'),
    /two nodes for weight "w", against V8/,
  ],
  [
    "V8",
    parsed('func @main() {\n%0: f32[] = weight {name="w.{0}"}\nreturn %0\n}'),
    /\{0\} in the name of a scalar, against V8/,
  ],
  [
    "V9",
    one(
      main(
        forged(m.full("f32", [2], 0), {
          attrs: { dtype: "f32", shape: [-2], value: 0 },
          type: { dtype: "f32", shape: [-2] },
        }),
      ),
    ),
    /size of f32\[-2\], against V9/,
  ],
];

function updated(rest: string): string {
  return `func @main(%kv: f32[4], %r: f32[2], %s: i32[2], %p: i32[4]) {\n%0: f32[4] = updateRows %kv, %r, %s\n${rest}\n}`;
}

describe("invariants", () => {
  test.each(cases)("%s", (id, module, message) => {
    expect(() => verifyModule(module)).toThrow(message);
    expect(() => verifyModule(module)).toThrow(IrError);
    const broken = (invariant: Invariant) => {
      try {
        invariant.check(module);
        return false;
      } catch {
        return true;
      }
    };
    expect(invariants.filter(broken).map(({ name }) => name.split(" ")[0])).toContain(id);
  });

  test("every invariant has a case", () => {
    const ids = invariants.map(({ name }) => name.split(" ")[0]);
    expect([...new Set(cases.map(([id]) => id))]).toEqual(ids);
  });

  test("a value may be read beside its update, where no reader depends on it", () => {
    verifyModule(parsed(updated("%1: f32[4] = gather %kv, %p\n%2: f32[4] = add %0, %1\nreturn %2")), [inPlace]);
  });

  test("the layer is bound for weights and free for functions without any", () => {
    verifyModule(parsed(`${layered}\nfunc @main(%x: f32[2]) {\n%0: f32[2] = call @block %x {layer=0}\nreturn %0\n}`));
    const plain = "func @f(%x: f32[2]) {\nreturn %x\n}";
    verifyModule(parsed(`${plain}\nfunc @main(%x: f32[2]) {\n%0: f32[2] = call @f %x {layer=3}\nreturn %0\n}`));
  });

  test("a long function is shown around the node", () => {
    const lines = Array.from({ length: 40 }, (_, i) => `%${i}: f32[4] = exp ${i === 0 ? "%p" : `%${i - 1}`}`);
    const text = `func @main(%p: f32[4], %r: f32[2], %s: i32[2]) {\n${lines.join("\n")}
      %u: f32[4] = updateRows %20, %r, %s\n%v: f32[4] = add %u, %20\nreturn %39, %v\n}`;
    expect(() => verifyModule(parsed(text), [inPlace])).toThrowErrorMatchingInlineSnapshot(`
      [IrError: @main: it reads a value after its update, against inPlace: what updateRows replaces is not read after the update, nor returned, nor updated twice
        func @main(%p: f32[4], %r: f32[2], %s: i32[2]) {
          .. 37 lines
          %37: f32[4] = exp %36
          %38: f32[4] = exp %37
          %39: f32[4] = exp %38
          %u: f32[4] = updateRows %20, %r, %s
      >   %v: f32[4] = add %u, %20
          return %39, %v
        }]
    `);
  });
});

describe("what passes give", () => {
  const text = `func @main(%x: f32[2,3]) {
    %w: bf16[3] = weight {name="w"}
    %0: f32[2,3] = rmsNorm %x, %w {eps=0.5}
    return %0
  }`;

  test("noComposites", () => {
    expect(() => verifyModule(parsed(text), [noComposites()])).toThrow(/rmsNorm is not expanded, against noComposites/);
    verifyModule(parsed(text), [noComposites(new Set(["rmsNorm"]))]);
  });

  const updates: readonly [Module, RegExp][] = [
    [
      parsed(updated("%1: f32[4] = add %kv, %0\nreturn %1")),
      /it reads a value after its update, against inPlace.*\n> +%1: f32\[4\] = add %kv, %0/s,
    ],
    [
      parsed(updated("%1: i32[4] = cast %0\n%2: f32[4] = gather %kv, %1\nreturn %2")),
      /it reads a value after its update, against inPlace/,
    ],
    [parsed(updated("return %0, %kv")), /the operand it replaces is a result of the function, against inPlace/],
    [
      parsed(updated("%1: f32[2] = neg %r\n%2: f32[4] = updateRows %kv, %1, %s\nreturn %0, %2")),
      /the operand it replaces is updated twice, against inPlace/,
    ],
  ];
  test.each(updates)("inPlace %#", (module, message) => {
    verifyModule(module);
    expect(() => verifyModule(module, [inPlace])).toThrow(message);
  });
});
