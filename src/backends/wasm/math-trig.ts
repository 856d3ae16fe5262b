/**
 * sin and cos in f64. Arguments below 2^17 are reduced by multiples of pi/2 in three parts (Cody and Waite); larger ones
 * by multiplying with the bits of 2/pi that matter (Payne and Hanek, "Radian reduction for trigonometric functions",
 * 1983). At most 2 units in the last place of f64, anywhere.
 */
import { apply, assign, type Code, choose, double, func, int, local, long, polynomial, returnIf } from "./code.ts";
import { call, ifElse, type WasmFunc } from "./instr.ts";

const bitsKept = 1344n;

/** pi * 2^bitsKept, by Machin: pi/4 = 4 arctan(1/5) - arctan(1/239). */
function bigPi(): bigint {
  const one = 1n << (bitsKept + 32n);
  const arctan = (n: bigint): bigint => {
    let [term, sum] = [one / n, one / n];
    for (let k = 3n; term !== 0n; k += 2n) {
      term = -term / (n * n);
      sum += term / k;
    }
    return sum;
  };
  return (4n * (4n * arctan(5n) - arctan(239n))) >> 32n;
}

const pi = bigPi();
/** 2/pi in words of 64 bits after the point, with a word of zeros before it. */
const twoOverPi = (1n << (2n * bitsKept + 1n)) / pi;
const words = Array.from(
  { length: 21 },
  (_, i) => (twoOverPi >> (bitsKept + 64n - 64n * BigInt(i + 1))) & (2n ** 64n - 1n),
);

/** pi/2 in parts of 33 bits, so that their products with a quadrant below 2^20 are exact. */
const parts: readonly number[] = (() => {
  let rest = pi;
  const result: number[] = [];
  for (let i = 0; i < 3; i++) {
    const length = BigInt(rest.toString(2).length);
    const drop = i === 2 ? length - 53n : length - 33n;
    const part = (rest >> drop) << drop;
    result.push(Number(part >> (drop - 0n)) * 2 ** Number(drop - bitsKept - 1n));
    rest -= part;
  }
  return result;
})();

/** The word at `i` of 2/pi, by halving the range. */
function wordTree(from: number, to: number): Code {
  if (to - from === 1) return long(BigInt.asIntN(64, words[from]!));
  const middle = (from + to) >> 1;
  return [...apply("i32.lt_s", local("i"), int(middle)), ifElse("i64", wordTree(from, middle), wordTree(middle, to))];
}
const word = func("two_over_pi_word", { i: "i32" }, "i64", {}, wordTree(0, words.length));

/** 64 bits of 2/pi from bit `at` (counted from the start of the word of zeros). */
const bitsAt = func(
  "two_over_pi_bits",
  { at: "i32" },
  "i64",
  { shift: "i64", i: "i32" },
  assign("i", apply("i32.shr_u", local("at"), int(6))),
  assign("shift", apply("i64.extend_i32_u", apply("i32.and", local("at"), int(63)))),
  apply(
    "i64.or",
    apply("i64.shl", [...local("i"), call("two_over_pi_word")], local("shift")),
    // A shift by 64 - 0 would be one by 0: it is done in two.
    apply(
      "i64.shr_u",
      apply("i64.shr_u", [...apply("i32.add", local("i"), int(1)), call("two_over_pi_word")], long(1n)),
      apply("i64.sub", long(63n), local("shift")),
    ),
  ),
);

const low32 = (value: Code) => apply("i64.and", value, long(0xffffffffn));
const high32 = (value: Code) => apply("i64.shr_u", value, long(32n));

/** The upper 64 bits of the product of two unsigned numbers. */
const mulHigh = func(
  "mul_high",
  { a: "i64", b: "i64" },
  "i64",
  { m: "i64", n: "i64" },
  assign(
    "m",
    apply(
      "i64.add",
      apply("i64.mul", high32(local("a")), low32(local("b"))),
      high32(apply("i64.mul", low32(local("a")), low32(local("b")))),
    ),
  ),
  assign("n", apply("i64.add", apply("i64.mul", low32(local("a")), high32(local("b"))), low32(local("m")))),
  apply(
    "i64.add",
    apply("i64.mul", high32(local("a")), high32(local("b"))),
    apply("i64.add", high32(local("m")), high32(local("n"))),
  ),
);

const multiply = (a: string, b: string): Code => apply("i64.mul", local(a), local(b));
const highOf = (a: string, b: string): Code => [...local(a), ...local(b), call("mul_high")];

/**
 * For x = m 2^e at least 2^17: x 2/pi modulo 4 is 4 frac(m F), F = frac(2^(e-2) 2/pi). Of m F the words p0 and p1 after
 * the point are kept. Gives the rest in [-1/2, 1/2] quarters of a turn, as radians; the quadrant in `$quadrant`.
 */
const reduceLarge = func(
  "reduce_large",
  { x: "f64" },
  "f64",
  { bits: "i64", m: "i64", at: "i32", w0: "i64", w1: "i64", w2: "i64", p0: "i64", p1: "i64", low: "i64" },
  assign("bits", apply("i64.reinterpret_f64", local("x"))),
  assign("m", apply("i64.or", apply("i64.and", local("bits"), long(0xfffffffffffffn)), long(1n << 52n))),
  // e = exponent - 1075; the bits wanted begin at e - 2, and 64 zeros stand before the first.
  assign(
    "at",
    apply("i32.sub", apply("i32.wrap_i64", apply("i64.shr_u", local("bits"), long(52n))), int(1075 + 2 - 64)),
  ),
  assign("w0", [...local("at"), call("two_over_pi_bits")]),
  assign("w1", [...apply("i32.add", local("at"), int(64)), call("two_over_pi_bits")]),
  assign("w2", [...apply("i32.add", local("at"), int(128)), call("two_over_pi_bits")]),
  assign("low", highOf("m", "w2")),
  assign("p1", apply("i64.add", multiply("m", "w1"), local("low"))),
  assign(
    "p0",
    apply(
      "i64.add",
      apply("i64.add", multiply("m", "w0"), highOf("m", "w1")),
      apply("i64.extend_i32_u", apply("i64.lt_u", local("p1"), local("low"))),
    ),
  ),
  // The two bits in front are the quadrant; rounding to the nearest one leaves a signed rest.
  [
    ...apply(
      "i32.wrap_i64",
      apply(
        "i64.add",
        apply("i64.shr_u", local("p0"), long(62n)),
        apply("i64.and", apply("i64.shr_u", local("p0"), long(61n)), long(1n)),
      ),
    ),
    { k: "global", op: "global.set", name: "quadrant" },
  ],
  assign("p0", apply("i64.or", apply("i64.shl", local("p0"), long(2n)), apply("i64.shr_u", local("p1"), long(62n)))),
  assign("p1", apply("i64.shl", local("p1"), long(2n))),
  apply(
    "f64.mul",
    apply(
      "f64.add",
      apply("f64.mul", apply("f64.convert_i64_s", local("p0")), double(2 ** -64)),
      apply("f64.mul", apply("f64.convert_i64_u", local("p1")), double(2 ** -128)),
    ),
    double(Math.PI / 2),
  ),
);

/** The rest of |x| modulo pi/2, in [-pi/4, pi/4]. */
const reduce = func(
  "reduce",
  { x: "f64" },
  "f64",
  { n: "f64" },
  returnIf(apply("f64.ge", local("x"), double(2 ** 17)), [...local("x"), call("reduce_large")]),
  assign("n", apply("f64.nearest", apply("f64.mul", local("x"), double(2 / Math.PI)))),
  [
    ...apply("i32.trunc_sat_f64_s", local("n")),
    { k: "global", op: "global.set", name: "quadrant" },
    ...parts.reduce<Code>(
      (rest, part) => apply("f64.sub", rest, apply("f64.mul", local("n"), double(part))),
      local("x"),
    ),
  ],
);

const series = (first: number, count: number) =>
  Array.from({ length: count }, (_, i) => {
    let factorial = 1;
    for (let n = 2; n <= first + 2 * i; n++) factorial *= n;
    return (i % 2 === 0 ? 1 : -1) / factorial;
  });

/** sin or cos of a rest: the quadrant's lowest bit picks the series, the second the sign. */
const quarter: Code = [{ k: "global", op: "global.get", name: "quadrant" }];
const turn = func(
  "turn",
  { r: "f64", quadrant: "i32" },
  "f64",
  { z: "f64" },
  assign("z", apply("f64.mul", local("r"), local("r"))),
  assign(
    "r",
    choose(
      "f64",
      apply("i32.and", local("quadrant"), int(1)),
      polynomial(local("z"), series(0, 9)),
      apply(
        "f64.add",
        local("r"),
        apply(
          "f64.mul",
          apply("f64.mul", local("r"), local("z")),
          polynomial(
            local("z"),
            series(3, 8).map((c) => -c),
          ),
        ),
      ),
    ),
  ),
  choose("f64", apply("i32.and", local("quadrant"), int(2)), apply("f64.neg", local("r")), local("r")),
);

const notFinite = apply("i32.eqz", apply("f64.lt", apply("f64.abs", local("x")), double(Number.POSITIVE_INFINITY)));
const reduced: Code = [...apply("f64.abs", local("x")), call("reduce")];

const sin = func(
  "sin",
  { x: "f64" },
  "f64",
  { r: "f64" },
  returnIf(notFinite, double(Number.NaN)),
  // x itself, -0 too.
  returnIf(apply("f64.lt", apply("f64.abs", local("x")), double(2 ** -27)), local("x")),
  assign("r", reduced),
  assign("r", [...local("r"), ...quarter, call("turn")]),
  choose("f64", apply("f64.lt", local("x"), double(0)), apply("f64.neg", local("r")), local("r")),
);

const cos = func("cos", { x: "f64" }, "f64", {}, returnIf(notFinite, double(Number.NaN)), [
  ...reduced,
  ...apply("i32.add", quarter, int(1)),
  call("turn"),
]);

export const trigFuncs: readonly WasmFunc[] = [word, bitsAt, mulHigh, reduceLarge, reduce, turn, sin, cos];
