/**
 * Kernel text: what a person reads, and what `parse.ts` reads back exactly.
 *
 *     kernel linear from "y = contract x, w" {
 *       read x: f32[1536] // f32[1,1536]
 *       write y: f32[8960]
 *       grid n in 0 .. 8960 {
 *         var sum: f64 = 0.0:f64
 *         for k in 0 .. 1536 {
 *           sum = sum + f64(x[k]) * f64(w[n * 1536 + k])
 *         }
 *         y[n] = sum
 *       }
 *     }
 *
 * `x[i]:4` loads four elements, `x[i]:u8x16` sixteen bytes as they are. Whole numbers are i32, numbers with a point f32. `//` starts a comment; the shape after a buffer is read.
 */
import type { ScalarOp } from "../scalar.ts";
import { showType } from "../types.ts";
import type { Buf, Expr, Kernel, LoopKind, Num, Stmt } from "./kernel.ts";
import { matricesOf } from "./multiply.ts";
import { isPackedValue, showValueType, type ValueType } from "./value.ts";

/** Operators written between their operands, loosest first; operators of one row associate to the left. */
export const infixLevels: readonly (readonly (readonly [string, ScalarOp])[])[] = [
  [["||", "or"]],
  [["&&", "and"]],
  [
    ["==", "eq"],
    ["!=", "ne"],
    ["<=", "le"],
    [">=", "ge"],
    ["<", "lt"],
    [">", "gt"],
  ],
  [
    ["+", "add"],
    ["-", "sub"],
  ],
  [
    ["*", "mul"],
    ["/", "div"],
    ["%", "rem"],
  ],
];

export const loopWords: Readonly<Record<LoopKind, string>> = {
  serial: "for",
  grid: "grid",
  workgroup: "workgroup",
  vector: "vector",
  unroll: "unroll",
};

const infix = new Map<ScalarOp, { symbol: string; level: number }>(
  infixLevels.flatMap((row, level) => row.map(([symbol, op]) => [op, { symbol, level }] as const)),
);

export function printKernel(kernel: Kernel): string {
  const origin =
    kernel.origin.length === 0 ? "" : ` from ${kernel.origin.map((text) => JSON.stringify(text)).join(", ")}`;
  const lines = [
    `kernel ${kernel.name}${origin} {`,
    ...kernel.bufs.map((buf) => `  ${printBuf(buf)}`),
    ...kernel.body.flatMap(printStmt).map((line) => `  ${line}`),
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

function printBuf({ name, dtype, size, shape, access, space }: Buf): string {
  const comment =
    shape === undefined ? "" : ` // ${dtype === "f64" ? `f64[${shape.join(",")}]` : showType({ dtype, shape })}`;
  return `${space === "global" ? "" : `${space} `}${access} ${name}: ${dtype}[${size}]${comment}`;
}

function printStmt(stmt: Stmt): string[] {
  const block = (head: string, body: readonly Stmt[], tail = "}") => [
    `${head} {`,
    ...body.flatMap(printStmt).map((line) => `  ${line}`),
    tail,
  ];
  switch (stmt.k) {
    case "let":
      return [`let ${stmt.name} = ${printExpr(stmt.value)}`];
    case "var":
      return [`var ${stmt.name}: ${showValueType(stmt.type)} = ${printExpr(stmt.init)}`];
    case "set":
      return [`${stmt.name} = ${printExpr(stmt.value)}`];
    case "store":
      return [`${stmt.buf}[${printExpr(stmt.index)}] = ${printExpr(stmt.value)}`];
    case "for": {
      const step = stmt.step === 1 ? "" : ` step ${stmt.step}`;
      const range = `${printExpr(stmt.from)} .. ${printExpr(stmt.to)}`;
      return block(`${loopWords[stmt.how]} ${stmt.name} in ${range}${step}`, stmt.body);
    }
    case "if": {
      const then = block(`if ${printExpr(stmt.cond)}`, stmt.then);
      return stmt.else.length === 0 ? then : [...then.slice(0, -1), ...block("} else", stmt.else)];
    }
    case "barrier":
      return ["barrier"];
    case "combine":
      return [`combine ${stmt.name} = ${stmt.op}(${printExpr(stmt.value)}) over ${stmt.over}${showApart(stmt.apart)}`];
    case "multiply": {
      const [result, left, right] = matricesOf(stmt).map(
        ({ at }) => `${at.buf}[${printExpr(at.index)}] step ${at.stride}`,
      );
      const sizes = [stmt.size, stmt.unit].map(({ m, n, k }) => `[${m}, ${n}, ${k}]`);
      return [`multiply ${result} = ${left} * ${right} size ${sizes.join(" by ")} from ${stmt.from} over ${stmt.over}`];
    }
    case "note":
      return [`note ${JSON.stringify(stmt.text)}`];
  }
}

/** An expression with the fewest parentheses; `level` is the loosest operator allowed without. */
export function printExpr(expr: Expr, level = 0): string {
  switch (expr.k) {
    case "num":
      return printNum(expr);
    case "ref":
      return expr.name;
    case "load":
      return `${expr.buf}[${printExpr(expr.index)}]${lanesSuffix(expr.type)}`;
    case "cast":
      return `${expr.type.dtype}(${printExpr(expr.value)})`;
    case "splat":
      return `splat${expr.type.lanes}(${printExpr(expr.value)})`;
    case "extract":
      return `lane${expr.lane}(${printExpr(expr.value)})`;
    case "sum":
      return `sum(${printExpr(expr.value)})`;
    case "intrinsic":
      return `${expr.name}(${expr.args.map((arg) => printExpr(arg)).join(", ")})`;
    case "op": {
      const operator = infix.get(expr.op);
      if (operator === undefined) return `${expr.op}(${expr.args.map((arg) => printExpr(arg)).join(", ")})`;
      const [a, b] = expr.args;
      if (expr.op === "add" && b!.k === "num" && b!.type.dtype === "i32" && b!.value < 0 && b!.value > -(2 ** 31)) {
        const text = `${printExpr(a!, operator.level)} - ${-b!.value}`;
        return operator.level < level ? `(${text})` : text;
      }
      // Comparisons do not chain; the rest associate to the left.
      const comparison = operator.level === 2 ? 1 : 0;
      const text = `${printExpr(a!, operator.level + comparison)} ${operator.symbol} ${printExpr(b!, operator.level + 1)}`;
      return operator.level < level ? `(${text})` : text;
    }
  }
}

const showApart = (apart: number): string => (apart === 1 ? "" : ` apart ${apart}`);

function lanesSuffix(type: ValueType): string {
  if (isPackedValue(type.dtype)) return `:${showValueType(type)}`;
  return type.lanes === 1 ? "" : `:${type.lanes}`;
}

/** `3` is an i32, `3.0`, `1e-6`, `-inf` and `NaN` are f32, other types follow a colon; the digits read back exactly. */
function printNum({ value, type }: Num): string {
  switch (type.dtype) {
    case "bool":
      return value === 0 ? "false" : "true";
    case "i32":
      return `${value}`;
    case "u32":
      return `${value}:u32`;
    case "f64":
      return `${printFloat(value)}:f64`;
    case "f32":
      return printFloat(shortest(value));
    case "i8":
    case "u8":
    case "i16":
      return `${value}:${type.dtype}`; // no valid kernel has one
  }
}

function printFloat(value: number): string {
  if (Object.is(value, -0)) return "-0.0";
  const text = `${value}`.replace("Infinity", "inf");
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** The decimal number of fewest digits that rounds to this f32. */
function shortest(value: number): number {
  for (let digits = 1; digits < 10; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Object.is(Math.fround(rounded), value)) return rounded;
  }
  return value;
}

/** Words that begin a statement or are literals, so cannot be names. */
export const reservedWords: ReadonlySet<string> = new Set([
  ...Object.values(loopWords),
  ..."kernel let var if else barrier combine multiply note true false inf NaN".split(" "),
]);
