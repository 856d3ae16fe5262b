/**
 * Which sequence owns which block of the paged cache. Pure bookkeeping over block ids: no tensors here.
 * A block's *content* is its tokens together with everything before them; full blocks of equal content are shared.
 *
 * Invariants, after every call:
 *   B1 free blocks + used blocks = numBlocks; a block is used exactly when its reference count is above 0.
 *   B2 the reference count of a block is the number of tables that list it.
 *   B3 a block in two tables is full and committed, so nobody writes to it again.
 *   B4 a content has at most one block that can be found by it.
 */

import { invariant } from "../../ir/errors.ts";

/** The blocks of one sequence. Only the BlockManager changes it. */
export class BlockTable {
  #ids = new Int32Array(4);
  #length = 0;
  /** Content ids of the leading blocks whose rows are all computed. */
  readonly contents: number[] = [];

  get length(): number {
    return this.#length;
  }

  /** The block ids as a view, valid until the table grows. */
  get ids(): Int32Array {
    return this.#ids.subarray(0, this.#length);
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const larger = new Int32Array(this.#length * 2);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#length++] = id;
  }

  clear(): void {
    this.#length = 0;
    this.contents.length = 0;
  }
}

export interface BlockManagerOptions {
  readonly numBlocks: number;
  /** Tokens per block. */
  readonly blockSize: number;
  /** Whether full blocks of equal prefixes are shared. Default true. */
  readonly prefixSharing?: boolean;
  /** Hash of a content, to 32 bits; equality is always checked too, so a poor hash costs sharing and never correctness. */
  readonly hash?: ContentHash;
}

/** `parent`: id of the content before these tokens, null at the beginning. */
export type ContentHash = (parent: number | null, tokens: ArrayLike<number>, start: number, count: number) => number;

/** What a findable block holds. Ids are never used twice, so equal parent ids mean equal prefixes. */
interface Content {
  readonly id: number;
  readonly parent: number | null;
  readonly hash: number;
}

export class BlockManager {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly #prefixSharing: boolean;
  readonly #hash: ContentHash;
  readonly #references: Int32Array;
  readonly #contents: (Content | null)[];
  /** Tokens of every findable block, [numBlocks, blockSize]. */
  readonly #tokens: Int32Array;
  readonly #byHash = new Map<number, number>();
  /** Free blocks that hold nothing findable. */
  readonly #empty: number[];
  /** Free blocks that can still be found by content, the least recently released first. */
  readonly #cached = new Set<number>();
  #nextContent = 1;

  constructor(options: BlockManagerOptions) {
    this.numBlocks = options.numBlocks;
    this.blockSize = options.blockSize;
    this.#prefixSharing = options.prefixSharing ?? true;
    this.#hash = options.hash ?? hashContent;
    this.#references = new Int32Array(this.numBlocks);
    this.#contents = new Array<Content | null>(this.numBlocks).fill(null);
    this.#tokens = new Int32Array(this.#prefixSharing ? this.numBlocks * this.blockSize : 0);
    this.#empty = Array.from({ length: this.numBlocks }, (_, i) => this.numBlocks - 1 - i);
  }

  get freeBlocks(): number {
    return this.#empty.length + this.#cached.size;
  }

  get usedBlocks(): number {
    return this.numBlocks - this.freeBlocks;
  }

  /** In how many tables the block is. */
  referenceCount(block: number): number {
    const count = this.#references[block];
    invariant(count !== undefined, () => `no block ${block} of ${this.numBlocks}`, "block manager");
    return count;
  }

  blocksFor(tokenCount: number): number {
    return Math.ceil(tokenCount / this.blockSize);
  }

  /**
   * Fills an empty table for all of `tokens`, sharing the longest prefix of full blocks that is in the cache but leaving at least the
   * last token to compute, since its logits are wanted. Gives how many tokens are already computed, or null, with nothing changed,
   * when the free blocks do not suffice.
   */
  admit(table: BlockTable, tokens: readonly number[]): number | null {
    invariant(table.length === 0, () => `admitted a table that has ${table.length} blocks`, "block manager");
    const shared = this.#findPrefix(tokens);
    const revived = shared.filter((block) => this.#references[block] === 0).length;
    if (this.blocksFor(tokens.length) - shared.length > this.freeBlocks - revived) return null;
    for (const block of shared) {
      if (this.#references[block]!++ === 0) this.#cached.delete(block);
      table.push(block);
      table.contents.push(this.#contentOf(block).id);
    }
    this.#fill(table, tokens.length);
    return shared.length * this.blockSize;
  }

  /** Makes room for `tokenCount` tokens: true, or false with nothing changed when blocks run out. */
  grow(table: BlockTable, tokenCount: number): boolean {
    if (this.blocksFor(tokenCount) - table.length > this.freeBlocks) return false;
    this.#fill(table, tokenCount);
    return true;
  }

  /** Notes that the cache rows of the first `computed` of `tokens` are written, which makes the full blocks among them findable. */
  commit(table: BlockTable, tokens: readonly number[], computed: number): void {
    const room = table.length * this.blockSize;
    invariant(computed <= room, () => `${computed} rows committed in room for ${room}`, "block manager");
    if (!this.#prefixSharing) return;
    for (let i = table.contents.length; (i + 1) * this.blockSize <= computed; i++) {
      const parent = table.contents[i - 1] ?? null;
      table.contents.push(this.#publish(table.ids[i]!, parent, tokens, i * this.blockSize));
    }
  }

  /** Gives up every block of the table and empties it. Blocks with findable content stay so until they are needed. */
  release(table: BlockTable): void {
    // From the end: the later blocks of a prefix are useless without the earlier ones, so they should be reused first.
    for (const block of table.ids.toReversed()) {
      invariant(this.referenceCount(block) > 0, () => `block ${block} released twice`, "block manager");
      if (--this.#references[block]! > 0) continue;
      if (this.#contents[block] === null) this.#empty.push(block);
      else this.#cached.add(block);
    }
    table.clear();
  }

  /** Forgets all contents, as after a failed step, when what the cache holds is unknown. Tables keep their blocks. */
  forgetContents(): void {
    for (const block of this.#cached) this.#empty.push(block);
    this.#cached.clear();
    this.#byHash.clear();
    this.#contents.fill(null);
  }

  #findPrefix(tokens: readonly number[]): number[] {
    const found: number[] = [];
    if (!this.#prefixSharing) return found;
    let parent: number | null = null;
    const shareable = Math.floor((tokens.length - 1) / this.blockSize);
    while (found.length < shareable) {
      const block = this.#find(parent, tokens, found.length * this.blockSize);
      if (block === null) break;
      found.push(block);
      parent = this.#contentOf(block).id;
    }
    return found;
  }

  /** The block that holds tokens[start, start + blockSize) after `parent`. */
  #find(parent: number | null, tokens: readonly number[], start: number): number | null {
    const block = this.#byHash.get(this.#hash(parent, tokens, start, this.blockSize));
    if (block === undefined || this.#contentOf(block).parent !== parent) return null;
    const held = block * this.blockSize;
    for (let i = 0; i < this.blockSize; i++) if (this.#tokens[held + i] !== tokens[start + i]) return null;
    return block;
  }

  /** Makes a computed block findable unless its content already is, or its hash is taken. Gives the content's id. */
  #publish(block: number, parent: number | null, tokens: readonly number[], start: number): number {
    const same = this.#find(parent, tokens, start);
    if (same !== null) return this.#contentOf(same).id;
    const id = this.#nextContent++;
    const hash = this.#hash(parent, tokens, start, this.blockSize);
    if (this.#byHash.has(hash)) return id;
    this.#byHash.set(hash, block);
    this.#contents[block] = { id, parent, hash };
    for (let i = 0; i < this.blockSize; i++) this.#tokens[block * this.blockSize + i] = tokens[start + i]!;
    return id;
  }

  /** What a findable block holds. */
  #contentOf(block: number): Content {
    const content = this.#contents[block];
    invariant(content, () => `block ${block} holds nothing findable`, "block manager");
    return content;
  }

  #fill(table: BlockTable, tokenCount: number): void {
    while (table.length < this.blocksFor(tokenCount)) {
      const block = this.#takeFree();
      this.#references[block] = 1;
      table.push(block);
    }
  }

  #takeFree(): number {
    const empty = this.#empty.pop();
    if (empty !== undefined) return empty;
    for (const block of this.#cached) {
      this.#cached.delete(block);
      this.#byHash.delete(this.#contentOf(block).hash);
      this.#contents[block] = null;
      return block;
    }
    invariant(false, () => "took a block when none was free", "block manager");
  }
}

/** FNV-1a over 32-bit words, with a final mix because neighbouring token ids differ in few bits. */
function hashContent(parent: number | null, tokens: ArrayLike<number>, start: number, count: number): number {
  let hash = Math.imul(0x811c9dc5 ^ (parent ?? 0), 0x01000193);
  for (let i = start; i < start + count; i++) hash = Math.imul(hash ^ tokens[i]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
