/**
 * Sparsity by magnitude: of each group of a row the elements of largest magnitude stay, the others become 0. N:M keeps N of each
 * M in a row ("2:4"); a share keeps the largest of each whole row.
 *
 * Magnitudes are compared as bits without their sign, whose order is that of the values in every float format. So nothing is
 * decoded or rounded, and what stays is what was stored; of equals the first stay.
 */
import { InputError, invariant } from "../../ir/errors.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { type DType, dtypeInfo, isFloat } from "../../ir/types.ts";

/** "2:4", or the share of each row that becomes 0, from 0 to 1. */
export type SparsityWish = string | number;

/** How many of each group stay; a group of null is a row. */
export type Sparsity = { readonly keep: number; readonly of: number } | { readonly share: number; readonly of: null };

/** @throws InputError for what is neither N:M nor a share */
export function parseSparsity(wish: SparsityWish, where = "prune sparsity"): Sparsity {
  if (typeof wish === "number") {
    if (wish >= 0 && wish < 1) return { share: wish, of: null };
    throw new InputError(where, `expected a share from 0 to below 1, got ${wish}`);
  }
  const [, keep = "", of = ""] = /^(\d{1,4}):(\d{1,4})$/.exec(wish) ?? [];
  const found = { keep: Number(keep), of: Number(of) };
  if (keep !== "" && found.keep >= 1 && found.keep <= found.of) return found;
  throw new InputError(where, `expected N:M such as 2:4, with N from 1 to M, or a share, got ${JSON.stringify(wish)}`);
}

/** Whether of each four of a row two may be other than 0. */
export function arePairs(sparsity: Sparsity): boolean {
  return sparsity.of === 4 && sparsity.keep <= 2;
}

/** For sentences: "2 of each 4 weights in a row kept, the largest". */
export function sparsitySentence(sparsity: Sparsity): string {
  if (sparsity.of === null)
    return `${Number((100 * sparsity.share).toFixed(2))} % of each row of weights set to 0, the smallest`;
  const { keep, of } = sparsity;
  return `${keep} of each ${of} weights in a row kept, the largest`;
}

/** Whether a tensor's elements can be told apart by magnitude. */
export function canBeSparse(dtype: DType, shape: readonly number[]): boolean {
  return isFloat(dtype) && dtype !== "f8e8m0" && shape.length > 1;
}

/** Elements of a row that are chosen among together; the last group of a row may be shorter. */
export function groupLength(sparsity: Sparsity, width: number): number {
  return Math.min(sparsity.of ?? width, width);
}

/** Sets the small elements of whole rows of `width` elements to 0, in place. */
export function keepLargest(data: TensorData, dtype: DType, width: number, sparsity: Sparsity): void {
  const bits = bitsOf(data);
  invariant(bits.length % width === 0, () => `${bits.length} elements are no rows of ${width}`);
  const sign = 2 ** (dtypeInfo(dtype).bits - 1);
  const group = groupLength(sparsity, width);
  const magnitudes = new Uint32Array(group);
  for (let row = 0; row < bits.length; row += width) {
    for (let start = row; start < row + width; start += group) {
      const length = Math.min(group, row + width - start);
      const keep = sparsity.of === null ? Math.ceil((1 - sparsity.share) * length) : Math.min(sparsity.keep, length);
      if (keep >= length) continue;
      for (let i = 0; i < length; i++) magnitudes[i] = bits[start + i]! % sign;
      const limit = length <= shortGroup ? limitOfFew(magnitudes, length, keep) : limitOfMany(magnitudes, length, keep);
      for (let i = 0; i < length; i++) {
        const magnitude = magnitudes[i]!;
        if (magnitude < limit.magnitude || (magnitude === limit.magnitude && limit.equal-- <= 0)) bits[start + i] = 0;
      }
    }
  }
}

/** The smallest magnitude that stays, and how many equal to it do. */
interface Limit {
  readonly magnitude: number;
  equal: number;
}

/** Sorting costs more than comparing each with each. */
const shortGroup = 8;

function limitOfFew(magnitudes: Uint32Array, length: number, keep: number): Limit {
  for (let i = 0; ; i++) {
    const magnitude = magnitudes[i]!;
    let [above, equal] = [0, 0];
    for (let j = 0; j < length; j++) {
      if (magnitudes[j]! > magnitude) above++;
      else if (magnitudes[j] === magnitude) equal++;
    }
    if (above < keep && above + equal >= keep) return { magnitude, equal: keep - above };
  }
}

function limitOfMany(magnitudes: Uint32Array, length: number, keep: number): Limit {
  const sorted = magnitudes.slice(0, length).sort();
  const magnitude = sorted[length - keep]!;
  let equal = 0;
  while (length - keep + equal < length && sorted[length - keep + equal] === magnitude) equal++;
  return { magnitude, equal };
}

function bitsOf(data: TensorData): Uint32Array | Uint16Array | Uint8Array {
  if (data instanceof Uint16Array || data instanceof Uint8Array) return data;
  return new Uint32Array(data.buffer, data.byteOffset, data.length);
}
