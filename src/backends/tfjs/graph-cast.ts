/**
 * Conversions as nodes of a TensorFlow graph. Each dtype is carried by a type of TensorFlow's; the bits of 8-bit floats by
 * bytes, which are read through a table of their 256 values.
 */
import { f8e4m3ToF32, f8e8m0ToF32 } from "../../ir/half.ts";
import { type DType, dtypeInfo, isFloat } from "../../ir/types.ts";
import { bytesOf, type GraphBuilder, type GraphTensor, intAttr, typeAttr } from "./graph.ts";
import { carrierOf } from "./graph-forms.ts";
import { fillOf, scalar } from "./graph-scalar.ts";
import type { TfType } from "./saved-model.ts";

/** As `TensorEngine.cast`. */
export function castTo(graph: GraphBuilder, x: GraphTensor, from: DType, to: DType): GraphTensor {
  if (from === to) return x;
  const wide = widened(graph, x, from);
  if (to === "bool") return notZero(graph, wide);
  if (!isFloat(to)) return toInteger(graph, wide, to);
  const float = plainCast(graph, wide, "float");
  if (to === "f8e4m3") return toF8e4m3(graph, float);
  if (to === "f8e8m0") return toF8e8m0(graph, float);
  return plainCast(graph, float, carrierOf(to));
}

/** Floats as float, all else as int32. */
function widened(graph: GraphBuilder, x: GraphTensor, from: DType): GraphTensor {
  if (from !== "f8e4m3" && from !== "f8e8m0") return plainCast(graph, x, isFloat(from) ? "float" : "int32");
  const decode = from === "f8e4m3" ? f8e4m3ToF32 : f8e8m0ToF32;
  const values = Float32Array.from({ length: 256 }, (_, code) => decode(code));
  const table = graph.constant({ type: "float", shape: [256] }, bytesOf(values));
  const attrs = {
    Tparams: typeAttr("float"),
    Tindices: typeAttr("int32"),
    Taxis: typeAttr("int32"),
    batch_dims: intAttr(0),
  };
  const codes = plainCast(graph, x, "int32");
  return graph.one("GatherV2", [table, codes, graph.int(0)], attrs, { type: "float", shape: x.shape });
}

/** TensorFlow's own cast: rounds floats to nearest even, and is only defined within the range of integers. */
export function plainCast(graph: GraphBuilder, x: GraphTensor, type: TfType): GraphTensor {
  if (x.type === type) return x;
  return graph.one("Cast", [x], { SrcT: typeAttr(x.type), DstT: typeAttr(type) }, { type, shape: x.shape });
}

function notZero(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  const dtype = x.type === "float" ? "f32" : "i32";
  return scalar(graph, "ne", dtype, [x, fillOf(graph, dtype, 0)]);
}

/** From float or int32, saturating; NaN becomes 0. */
function toInteger(graph: GraphBuilder, x: GraphTensor, to: DType): GraphTensor {
  const [low, high] = dtypeInfo(to).range!; // an integer dtype
  if (x.type === "int32")
    return to === "i32" ? x : plainCast(graph, clamped(graph, x, "i32", low, high), carrierOf(to));
  const number = scalar(graph, "select", "f32", [scalar(graph, "ne", "f32", [x, x]), fillOf(graph, "f32", 0), x]);
  if (to !== "i32") return plainCast(graph, clamped(graph, number, "f32", low, high), carrierOf(to));
  // 2^31 - 1 is no f32: what is larger is replaced after the conversion.
  const tooLarge = scalar(graph, "ge", "f32", [number, fillOf(graph, "f32", 2 ** 31)]);
  const within = clamped(graph, number, "f32", low, 2 ** 31 - 128);
  return scalar(graph, "select", "i32", [tooLarge, fillOf(graph, "i32", high), plainCast(graph, within, "int32")]);
}

/** For what is no NaN. */
function clamped(graph: GraphBuilder, x: GraphTensor, dtype: "f32" | "i32", low: number, high: number): GraphTensor {
  const attrs = { T: typeAttr(x.type) };
  const above = graph.one("Maximum", [x, fillOf(graph, dtype, low)], attrs, x);
  return graph.one("Minimum", [above, fillOf(graph, dtype, high)], attrs, x);
}

function bitsOf(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  return graph.one(
    "Bitcast",
    [x],
    { T: typeAttr("float"), type: typeAttr("int32") },
    { type: "int32", shape: x.shape },
  );
}

/** `x / 2^shift` of whole numbers from 0. */
function shiftedDown(graph: GraphBuilder, x: GraphTensor, shift: number): GraphTensor {
  return graph.one("TruncateDiv", [x, graph.int(2 ** shift)], { T: typeAttr("int32") }, x);
}

/**
 * OCP FP8 E4M3, saturating. From bits: the fraction is rounded to its upper three, ties to even, and a carry runs into the
 * exponent. Below 2^-6, where exponents end, codes are multiples of 2^-9.
 */
function toF8e4m3(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  const i32 = (op: "add" | "sub" | "select", ...xs: readonly GraphTensor[]) => scalar(graph, op, "i32", xs);
  const f32 = (value: number) => fillOf(graph, "f32", value);
  const noNumber = scalar(graph, "ne", "f32", [x, x]);
  const number = scalar(graph, "select", "f32", [noNumber, f32(0), x]);
  const size = graph.one("Minimum", [scalar(graph, "abs", "f32", [number]), f32(448)], { T: typeAttr("float") }, x);
  const bits = bitsOf(graph, size);
  const upper = shiftedDown(graph, bits, 20);
  const odd = graph.one("TruncateMod", [upper, graph.int(2)], { T: typeAttr("int32") }, upper);
  const rounded = shiftedDown(graph, i32("add", i32("add", bits, graph.int(2 ** 19 - 1)), odd), 20);
  const normal = i32("sub", rounded, graph.int((127 - 7) * 8));
  const steps = scalar(graph, "round", "f32", [scalar(graph, "mul", "f32", [size, f32(2 ** 9)])]);
  const small = scalar(graph, "lt", "f32", [size, f32(2 ** -6)]);
  const code = i32("select", small, toInteger(graph, steps, "i32"), normal);
  const negative = scalar(graph, "lt", "i32", [bitsOf(graph, x), graph.int(0)]);
  const signed = i32("add", code, i32("select", negative, graph.int(128), graph.int(0)));
  return plainCast(graph, i32("select", noNumber, graph.int(0x7f), signed), "uint8");
}

/** The nearest power of two: its exponent, one more from a fraction of sqrt(2) on; 255 is NaN. */
function toF8e8m0(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  const noNumber = scalar(graph, "ne", "f32", [x, x]);
  const number = scalar(graph, "select", "f32", [noNumber, fillOf(graph, "f32", 0), x]);
  const positive = graph.one("Maximum", [number, fillOf(graph, "f32", 0)], { T: typeAttr("float") }, x);
  const nearest = scalar(graph, "add", "i32", [bitsOf(graph, positive), graph.int(2 ** 23 - 0x3504f4)]);
  const code = clamped(graph, shiftedDown(graph, nearest, 23), "i32", 0, 254);
  return plainCast(graph, scalar(graph, "select", "i32", [noNumber, graph.int(255), code]), "uint8");
}
