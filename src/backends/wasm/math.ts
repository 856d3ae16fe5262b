/**
 * Functions that WebAssembly has no instruction for, in f64: range reduction and a Taylor polynomial long enough that
 * what it leaves out is below the rounding of a double. Errors, measured against JavaScript's Math in the tests: exp 2,
 * log 2, sigmoid 3, tanh 8 units in the last place of f64; pow a relative 2e-13 (|exponent * log base| is up to 745);
 * remainder exact. As f32 all are correctly rounded but for about one argument in a hundred million.
 */
import { apply, assign, choose, double, func, int, local, long, polynomial, returnIf } from "./code.ts";
import { block, branch, branchIf, call, ifElse, loopBlock, type WasmFunc } from "./instr.ts";

const x = local("x");
const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));

/** log(2) in two parts; the first has 20 trailing zero bits, so that its product with an exponent is exact. */
export const ln2High = 0.6931471803691238;
export const ln2Low = 1.9082149292705877e-10;

/** 2^k for i32 k from -1022 to 1023: the biased exponent in place. */
const powerOfTwo = (k: ReturnType<typeof local>) =>
  apply("f64.reinterpret_i64", apply("i64.shl", apply("i64.extend_i32_s", apply("i32.add", k, int(1023))), long(52n)));

/** exp(x) = 2^k exp(r), x = k log 2 + r, |r| <= log(2)/2; r^14/14! is below 2^-57. */
const exp = func(
  "exp",
  { x: "f64" },
  "f64",
  { k: "i32", n: "f64", r: "f64" },
  returnIf(apply("f64.ne", x, x), x),
  returnIf(apply("f64.gt", x, double(709.782712893384)), double(Number.POSITIVE_INFINITY)),
  returnIf(apply("f64.lt", x, double(-745.1332191019412)), double(0)),
  assign("n", apply("f64.nearest", apply("f64.mul", x, double(Math.LOG2E)))),
  assign("k", apply("i32.trunc_sat_f64_s", local("n"))),
  assign(
    "r",
    apply(
      "f64.sub",
      apply("f64.sub", x, apply("f64.mul", local("n"), double(ln2High))),
      apply("f64.mul", local("n"), double(ln2Low)),
    ),
  ),
  // In two halves, since 2^k alone may overflow or be subnormal.
  apply(
    "f64.mul",
    apply(
      "f64.mul",
      polynomial(
        local("r"),
        Array.from({ length: 14 }, (_, n) => 1 / factorial(n)),
      ),
      powerOfTwo(apply("i32.shr_s", local("k"), int(1))),
    ),
    powerOfTwo(apply("i32.sub", local("k"), apply("i32.shr_s", local("k"), int(1)))),
  ),
);

const one52 = 0x3ff0000000000000n;
const exponentOf = (bits: ReturnType<typeof local>) => apply("i32.wrap_i64", apply("i64.shr_u", bits, long(52n)));

/** log(x) = e log 2 + log(m), m in [sqrt(1/2), sqrt(2)); log(m) = 2 s (1 + s^2/3 + s^4/5 + ...), s = (m-1)/(m+1). */
const log = func(
  "log",
  { x: "f64" },
  "f64",
  { e: "i32", m: "f64", s: "f64", n: "f64" },
  // NaN, negative, zero, infinite.
  returnIf(
    apply("i32.eqz", apply("f64.gt", x, double(0))),
    choose("f64", apply("f64.eq", x, double(0)), double(Number.NEGATIVE_INFINITY), double(Number.NaN)),
  ),
  returnIf(apply("f64.eq", x, double(Number.POSITIVE_INFINITY)), x),
  assign("m", x),
  [
    ...apply("f64.lt", x, double(2 ** -1022)),
    // Subnormals get an exponent of their own by scaling.
    ifElse(null, [...assign("m", apply("f64.mul", x, double(2 ** 54))), ...assign("e", int(-54))]),
  ],
  assign(
    "e",
    apply("i32.add", local("e"), apply("i32.sub", exponentOf(apply("i64.reinterpret_f64", local("m"))), int(1023))),
  ),
  assign(
    "m",
    apply(
      "f64.reinterpret_i64",
      apply("i64.or", apply("i64.and", apply("i64.reinterpret_f64", local("m")), long(0xfffffffffffffn)), long(one52)),
    ),
  ),
  assign("e", apply("i32.add", local("e"), apply("f64.gt", local("m"), double(Math.SQRT2)))),
  assign(
    "m",
    choose(
      "f64",
      apply("f64.gt", local("m"), double(Math.SQRT2)),
      apply("f64.mul", local("m"), double(0.5)),
      local("m"),
    ),
  ),
  assign("s", apply("f64.div", apply("f64.sub", local("m"), double(1)), apply("f64.add", local("m"), double(1)))),
  assign("m", apply("f64.mul", local("s"), local("s"))),
  assign("n", apply("f64.convert_i32_s", local("e"))),
  apply(
    "f64.add",
    apply("f64.mul", local("n"), double(ln2High)),
    apply(
      "f64.add",
      apply(
        "f64.mul",
        apply("f64.add", local("s"), local("s")),
        polynomial(
          local("m"),
          Array.from({ length: 13 }, (_, n) => 1 / (2 * n + 1)),
        ),
      ),
      apply("f64.mul", local("n"), double(ln2Low)),
    ),
  ),
);

const sigmoid = func(
  "sigmoid",
  { x: "f64" },
  "f64",
  {},
  apply("f64.div", double(1), apply("f64.add", double(1), [...apply("f64.neg", x), call("exp")])),
);

/** For small x by the series of exp(2x) - 1, else 1 - 2 / (exp(2|x|) + 1) with the sign of x. */
const tanh = func(
  "tanh",
  { x: "f64" },
  "f64",
  { t: "f64" },
  returnIf(apply("f64.ne", x, x), x),
  assign("t", apply("f64.add", x, x)),
  returnIf(apply("f64.lt", apply("f64.abs", x), double(1e-9)), x),
  [
    ...apply("f64.lt", apply("f64.abs", x), double(0.17)),
    ifElse(
      "f64",
      [
        ...assign(
          "t",
          apply(
            "f64.mul",
            local("t"),
            polynomial(
              local("t"),
              Array.from({ length: 14 }, (_, n) => 1 / factorial(n + 1)),
            ),
          ),
        ),
        ...apply("f64.div", local("t"), apply("f64.add", local("t"), double(2))),
      ],
      apply(
        "f64.copysign",
        apply(
          "f64.sub",
          double(1),
          apply("f64.div", double(2), apply("f64.add", [...apply("f64.abs", local("t")), call("exp")], double(1))),
        ),
        x,
      ),
    ),
  ],
);

const y = local("y");
const isWhole = (value: ReturnType<typeof local>) => apply("f64.eq", apply("f64.nearest", value), value);
const negativeBase = apply("i64.lt_s", apply("i64.reinterpret_f64", x), long(0n));

/** exp(y log|x|), negative for a negative base and an odd exponent, as JavaScript's `**`. */
const pow = func(
  "pow",
  { x: "f64", y: "f64" },
  "f64",
  { p: "f64" },
  returnIf(apply("f64.eq", y, double(0)), double(1)),
  // A negative number to a power that is not whole.
  returnIf(
    apply(
      "i32.and",
      apply("i32.and", apply("f64.lt", x, double(0)), apply("f64.gt", x, double(Number.NEGATIVE_INFINITY))),
      apply("i32.eqz", isWhole(y)),
    ),
    double(Number.NaN),
  ),
  assign("p", [...apply("f64.mul", y, [...apply("f64.abs", x), call("log")]), call("exp")]),
  choose(
    "f64",
    apply(
      "i32.and",
      apply("i32.and", negativeBase, isWhole(y)),
      apply("i32.eqz", isWhole(apply("f64.mul", y, double(0.5)))),
    ),
    apply("f64.neg", local("p")),
    local("p"),
  ),
);

/** The remainder with the sign of x, exact: subtracts y times falling powers of two. */
const rem = func(
  "rem",
  { x: "f64", y: "f64" },
  "f64",
  { a: "f64", b: "f64", t: "f64" },
  assign("a", apply("f64.abs", x)),
  assign("b", apply("f64.abs", y)),
  returnIf(
    apply(
      "i32.eqz",
      apply(
        "i32.and",
        apply("f64.lt", local("a"), double(Number.POSITIVE_INFINITY)),
        apply("f64.gt", local("b"), double(0)),
      ),
    ),
    double(Number.NaN),
  ),
  // An infinite y too.
  returnIf(apply("f64.lt", local("a"), local("b")), x),
  assign("t", local("b")),
  [
    block("scaled", [
      loopBlock("double", [
        ...apply("i32.eqz", apply("f64.le", local("t"), apply("f64.mul", local("a"), double(0.5)))),
        branchIf("scaled"),
        ...assign("t", apply("f64.add", local("t"), local("t"))),
        branch("double"),
      ]),
    ]),
    block("done", [
      loopBlock("halve", [
        ...apply("f64.lt", local("t"), local("b")),
        branchIf("done"),
        ...assign(
          "a",
          choose("f64", apply("f64.ge", local("a"), local("t")), apply("f64.sub", local("a"), local("t")), local("a")),
        ),
        // Half the smallest number rounds to zero, below any divisor.
        ...assign("t", apply("f64.mul", local("t"), double(0.5))),
        branch("halve"),
      ]),
    ]),
  ],
  apply("f64.copysign", local("a"), x),
);

export const mathFuncs: readonly WasmFunc[] = [exp, log, sigmoid, tanh, pow, rem];
