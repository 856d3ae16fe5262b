/** A checkpoint as a pruned model sees it: experts by their new numbers, gates with the rows that are kept. */
import { type PruneOptions, parseSparsity } from "../../compile.ts";
import { type Tensor, tensorFrom, zeros } from "../../ir/tensor.ts";
import { sizeOf, tensorType } from "../../ir/types.ts";
import { type KeptExperts, originOf } from "../../models/deepseek/pruned.ts";
import type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";
import { sparseCheckpoint } from "./sparse-checkpoint.ts";

/** Without the experts that are left out and the elements that are small. */
export function pruneCheckpoint(checkpoint: Checkpoint, prune: PruneOptions | null): Checkpoint {
  const { experts, sparsity } = prune ?? {};
  const kept = experts === undefined ? checkpoint : prunedCheckpoint(checkpoint, experts);
  return sparsity === undefined ? kept : sparseCheckpoint(kept, parseSparsity(sparsity));
}

/** `tensors` stays what is in the files. */
export function prunedCheckpoint(checkpoint: Checkpoint, kept: KeptExperts): Checkpoint {
  const find = (name: string): CheckpointTensor => {
    const { name: original, rows } = originOf(name, kept);
    const found = checkpoint.find(original);
    return rows === null ? found : { ...found, shape: found.shape.with(0, rows.length) };
  };
  const readInto: Checkpoint["readInto"] = async (name, { from, to }, into) => {
    const { name: original, rows } = originOf(name, kept);
    if (rows === null) return checkpoint.readInto(original, { from, to }, into);
    const width = sizeOf(checkpoint.find(original).shape.slice(1));
    // Gates are small: a read for each row, or part of one.
    for (let at = from; at < to; ) {
      const row = Math.floor(at / width);
      const end = Math.min(to, (row + 1) * width);
      const shift = (rows[row]! - row) * width;
      await checkpoint.readInto(original, { from: at + shift, to: end + shift }, into.subarray(at - from, end - from));
      at = end;
    }
  };
  const read = async (name: string): Promise<Tensor> => {
    const { dtype, shape } = find(name);
    const { data } = zeros(dtype, shape);
    await readInto(name, { from: 0, to: sizeOf(shape) }, data);
    return tensorFrom(tensorType(dtype, shape), data);
  };
  const locate: Checkpoint["locate"] = (name) => {
    const { name: original, rows } = originOf(name, kept);
    return rows === null ? checkpoint.locate(original) : null;
  };
  return { ...checkpoint, find, read, readInto, locate };
}
