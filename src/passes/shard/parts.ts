/** Tensors cut into the parts of the ranks, and put together again: what goes into a divided program and comes out of it. */
import { IrError } from "../../ir/errors.ts";
import { type Coords, indexAlong, type Mesh, sizeAlong } from "../../ir/mesh.ts";
import { reader, type Tensor, writer, zeros } from "../../ir/tensor.ts";
import { type Shape, sizeOf, stridesOf } from "../../ir/types.ts";
import { localShape, type Sharding } from "./sharding.ts";

/** Calls `visit` with the offset of each element of a part in the part and in the whole. */
function walkPart(
  whole: Shape,
  part: Shape,
  starts: readonly number[],
  visit: (at: number, from: number) => void,
): void {
  const [strides, own] = [stridesOf(whole), stridesOf(part)];
  for (let i = 0; i < sizeOf(part); i++) {
    let from = 0;
    for (let dim = 0; dim < part.length; dim++) {
      from += (starts[dim]! + (Math.floor(i / own[dim]!) % part[dim]!)) * strides[dim]!;
    }
    visit(i, from);
  }
}

function startsOf(part: Shape, { dims }: Sharding, mesh: Mesh, coords: Coords): number[] {
  return part.map((size, dim) => size * indexAlong(mesh, coords, dims[dim]!));
}

/** The part of a rank. */
export function partOf(whole: Tensor, sharding: Sharding, mesh: Mesh, coords: Coords): Tensor {
  const { dtype, shape } = whole.type;
  if (sharding.dims.every((axes) => sizeAlong(mesh, axes) === 1)) return whole;
  const own = localShape(shape, sharding, mesh);
  const part = zeros(dtype, own);
  const [read, write] = [reader(whole), writer(part)];
  walkPart(shape, own, startsOf(own, sharding, mesh, coords), (at, from) => write(at, read(from)));
  return part;
}

/** The whole of the parts of some ranks, which together have every element. */
export function joinParts(
  parts: readonly { tensor: Tensor; coords: Coords }[],
  sharding: Sharding,
  mesh: Mesh,
): Tensor {
  const [first] = parts;
  if (first === undefined) throw new IrError("result", "no rank has it");
  const { dtype, shape } = first.tensor.type;
  if (sharding.dims.every((axes) => sizeAlong(mesh, axes) === 1)) return first.tensor;
  const whole = zeros(
    dtype,
    shape.map((size, dim) => size * sizeAlong(mesh, sharding.dims[dim]!)),
  );
  const write = writer(whole);
  for (const { tensor, coords } of parts) {
    const read = reader(tensor);
    walkPart(whole.type.shape, shape, startsOf(shape, sharding, mesh, coords), (at, to) => write(to, read(at)));
  }
  return whole;
}
