/** IDS.json: arrays of token ids, for comparison with other implementations. */
import { InputError, showValue } from "../ir/errors.ts";
import { asArray, asCount, parseJson } from "../runtime/weights/json.ts";
import { readText } from "./read-input.ts";

export async function readTokenIds(path: string): Promise<number[][]> {
  return parseTokenIds(
    await readText(path, "IDS.json is a file with arrays of token ids, such as [[1, 2], [3]]."),
    path === "-" ? "stdin" : path,
  );
}

/** @throws InputError naming the element that is no token id. */
export function parseTokenIds(text: string, where: string): number[][] {
  const lists = asArray(parseJson(text, where), where);
  if (lists.length === 0) throw new InputError(where, "expected an array of arrays of token ids, got an empty array");
  return lists.map((list, i) => {
    const ids = asArray(list, `${where}[${i}]`);
    if (ids.length === 0) throw new InputError(`${where}[${i}]`, "expected at least one token id, got an empty array");
    return ids.map((id, j) => asCount(id, `${where}[${i}][${j}]`));
  });
}

/** @throws InputError naming the first id that the vocabulary does not have. */
export function checkTokenIds(lists: readonly (readonly number[])[], vocabSize: number, where: string): void {
  for (const [i, ids] of lists.entries()) {
    const j = ids.findIndex((id) => id >= vocabSize);
    if (j === -1) continue;
    const what = `expected a token id from 0 to ${vocabSize - 1}, got ${showValue(ids[j])}`;
    throw new InputError(`${where === "-" ? "stdin" : where}[${i}][${j}]`, what);
  }
}
