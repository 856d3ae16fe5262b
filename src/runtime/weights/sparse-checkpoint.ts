/** A checkpoint whose matrices are sparse: small elements of each group are read as 0. */
import { canBeSparse, groupLength, isMatrixOfLayers, keepLargest, type Sparsity } from "../../compile.ts";
import { tensorFrom, zeros } from "../../ir/tensor.ts";
import { sizeOf, tensorType } from "../../ir/types.ts";
import type { Checkpoint } from "./checkpoint.ts";

/** Of linear layers and experts; embeddings, heads, routers and what makes keys and values stay as they are. */
export function sparseCheckpoint(checkpoint: Checkpoint, sparsity: Sparsity): Checkpoint {
  const readInto: Checkpoint["readInto"] = async (name, { from, to }, into) => {
    const { dtype, shape } = checkpoint.find(name);
    if (!isMatrixOfLayers(name) || !canBeSparse(dtype, shape)) return checkpoint.readInto(name, { from, to }, into);
    const width = shape.at(-1)!;
    const group = groupLength(sparsity, width);
    // Whole rows where groups do not end with them.
    const unit = width % group === 0 ? group : width;
    const [first, last] = [from - (from % unit), Math.ceil(to / unit) * unit];
    const whole = first === from && last === to ? into : zeros(dtype, [last - first]).data;
    await checkpoint.readInto(name, { from: first, to: last }, whole);
    keepLargest(whole, dtype, unit, sparsity);
    if (whole !== into) into.set(whole.subarray(from - first, to - first));
  };
  const read: Checkpoint["read"] = async (name) => {
    const { dtype, shape } = checkpoint.find(name);
    const { data } = zeros(dtype, shape);
    await readInto(name, { from: 0, to: sizeOf(shape) }, data);
    return tensorFrom(tensorType(dtype, shape), data);
  };
  const locate: Checkpoint["locate"] = (name) => {
    const found = checkpoint.locate(name);
    return found !== null && isMatrixOfLayers(name) && canBeSparse(found.type.dtype, found.type.shape) ? null : found;
  };
  return { ...checkpoint, read, readInto, locate };
}
