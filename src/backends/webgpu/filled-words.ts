/** Parts of a tensor as whole words, in which alone WebGPU writes: the words that a part shares with others are remembered. */
import { type TensorData, viewOf } from "../../ir/tensor.ts";
import { dtypeInfo, type TensorType, tensorType } from "../../ir/types.ts";
import { putElements } from "../../ir/weight.ts";

export class FilledWords {
  readonly #type: TensorType;
  /** Words of which only some elements are known. */
  readonly #edges = new Map<number, Uint8Array>();

  constructor(type: TensorType) {
    this.#type = type;
  }

  /** `count` elements from element `at` on: the words in which they lie, and the number of the first. Valid until `part` changes. */
  put(at: number, part: TensorData, count: number): { word: number; content: Uint8Array<ArrayBuffer> } {
    const { dtype } = this.#type;
    const perWord = 32 / dtypeInfo(dtype).bits;
    const [from, to] = [Math.floor(at / perWord), Math.ceil((at + count) / perWord)];
    const { buffer, byteOffset } = part;
    if (at % perWord === 0 && count % perWord === 0 && buffer instanceof ArrayBuffer)
      return { word: from, content: new Uint8Array(buffer, byteOffset, 4 * (to - from)) };
    const content = new Uint8Array(4 * (to - from));
    const ends = [...new Set([from, to - 1])];
    for (const word of ends) content.set(this.#edges.get(word) ?? [], 4 * (word - from));
    const elements = (to - from) * perWord;
    const bytesEach = dtypeInfo(dtype).bits / 8;
    const length = bytesEach < 1 ? content.length : content.length / bytesEach;
    const whole = { type: tensorType(dtype, [elements]), data: viewOf(dtype, content.buffer, 0, length) };
    putElements(whole, at - from * perWord, part.subarray(0, bytesEach < 1 ? Math.ceil(count / 2) : count), count);
    for (const word of ends) this.#edges.set(word, content.slice(4 * (word - from), 4 * (word - from) + 4));
    return { word: from, content };
  }
}
