/**
 * How values cross between JavaScript and a TensorFlow session: tfjs-node feeds and fetches float, int32 and bool, so
 * elements of other types go as int32, four bytes to each, and are told apart by the graph.
 */
import type { TensorData } from "../../ir/tensor.ts";
import { sizeOf, type TensorType } from "../../ir/types.ts";
import { bytesOf, type GraphBuilder, type GraphTensor, intAttr, type TensorForm, typeAttr } from "./graph.ts";
import { carriedBytes, carriedData, formOf } from "./graph-forms.ts";
import { tfTypes } from "./saved-model.ts";

/** Values on the way: what tfjs makes a tensor of. */
export interface HostTensor {
  readonly type: "float" | "int32" | "bool";
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | Uint8Array;
}

/** The form in which values of a form cross. */
export function crossingForm(form: TensorForm): TensorForm {
  if (crossesAsIs(form)) return form;
  return { type: "int32", shape: [Math.ceil((sizeOf(form.shape) * tfTypes[form.type].bytes) / 4)] };
}

function crossesAsIs({ type }: TensorForm): boolean {
  return type === "float" || type === "int32" || type === "bool";
}

/** Host memory of a tensor as it is fed. */
export function toHost(type: TensorType, data: TensorData): HostTensor {
  const form = formOf(type);
  const bytes = carriedBytes(type, data);
  const { type: crossing, shape } = crossingForm(form);
  if (crossing === "bool") return { type: crossing, shape, data: bytes };
  const size = sizeOf(shape);
  const aligned = bytes.byteOffset % 4 === 0 && bytes.length === 4 * size;
  const words = aligned ? bytes : new Uint8Array(4 * size);
  if (!aligned) words.set(bytes);
  const place = [words.buffer, words.byteOffset, size] as const;
  if (crossing === "float") return { type: crossing, shape, data: new Float32Array(...place) };
  return { type: "int32", shape, data: new Int32Array(...place) };
}

/** Puts what was fetched into host memory of the type. */
export function fromHost(type: TensorType, fetched: HostTensor["data"], into: TensorData): void {
  carriedData(type, bytesOf(fetched), into);
}

/** What is fed, as the tensor that it stands for. */
export function unpacked(graph: GraphBuilder, fed: GraphTensor, form: TensorForm): GraphTensor {
  if (crossesAsIs(form)) return fed;
  const { type, shape } = form;
  const each = 4 / tfTypes[type].bytes;
  const words = fed.shape[0]!;
  const attrs = { T: typeAttr("int32"), type: typeAttr(type) };
  const split = graph.one("Bitcast", [fed], attrs, { type, shape: [words, each] });
  const flat = reshape(graph, split, [words * each]);
  const sliced =
    words * each === sizeOf(shape)
      ? flat
      : graph.one(
          "Slice",
          [flat, graph.ints([0]), graph.ints([sizeOf(shape)])],
          { T: typeAttr(type), Index: typeAttr("int32") },
          { type, shape: [sizeOf(shape)] },
        );
  return reshape(graph, sliced, shape);
}

/** The tensor as it is fetched. */
export function packed(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  if (crossesAsIs(x)) return x;
  const { type } = x;
  const each = 4 / tfTypes[type].bytes;
  const [size, words] = [sizeOf(x.shape), crossingForm(x).shape[0]!];
  const flat = reshape(graph, x, [size]);
  const missing = words * each - size;
  const rest = graph.constant({ type, shape: [missing] }, new Uint8Array(missing * tfTypes[type].bytes));
  const attrs = { N: intAttr(2), T: typeAttr(type), Tidx: typeAttr("int32") };
  const full =
    missing === 0 ? flat : graph.one("ConcatV2", [flat, rest, graph.int(0)], attrs, { type, shape: [words * each] });
  const rows = reshape(graph, full, [words, each]);
  return graph.one(
    "Bitcast",
    [rows],
    { T: typeAttr(type), type: typeAttr("int32") },
    { type: "int32", shape: [words] },
  );
}

function reshape(graph: GraphBuilder, x: GraphTensor, shape: readonly number[]): GraphTensor {
  const attrs = { T: typeAttr(x.type), Tshape: typeAttr("int32") };
  return graph.one("Reshape", [x, graph.ints(shape)], attrs, { type: x.type, shape });
}
