/** The block manager as a state machine, against tables, contents and counts kept the naive way. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockManager, BlockTable } from "../../../src/runtime/engine/block-manager.ts";

interface Holder {
  readonly table: BlockTable;
  readonly tokens: number[];
  /** Tokens whose rows are written. */
  computed: number;
}

/** The naive side: who holds what, and what each block's rows really contain. */
interface Model {
  readonly holders: Holder[];
  /** Per block, the prefix whose last rows it holds, written row by row. */
  readonly rows: Map<number, string[]>;
}

class System {
  readonly manager: BlockManager;
  sharedTokens = 0;
  constructor(manager: BlockManager) {
    this.manager = manager;
  }
}

type Command = fc.Command<Model, System>;

/** Writes the rows that are not computed yet, as a step would, then commits. */
function compute(model: Model, { manager }: System, holder: Holder, upTo: number): void {
  for (let position = holder.computed; position < upTo; position++) {
    const block = holder.table.ids[Math.floor(position / manager.blockSize)]!;
    expect(manager.referenceCount(block)).toBe(1);
    const rows = model.rows.get(block) ?? [];
    rows[position % manager.blockSize] = holder.tokens.slice(0, position + 1).join();
    model.rows.set(block, rows);
  }
  holder.computed = upTo;
  manager.commit(holder.table, holder.tokens, upTo);
}

function checkInvariants(model: Model, { manager }: System): void {
  const counts = new Map<number, number>();
  for (const { table } of model.holders) {
    expect(new Set(table.ids).size).toBe(table.length);
    for (const block of table.ids) counts.set(block, (counts.get(block) ?? 0) + 1);
  }
  for (let block = 0; block < manager.numBlocks; block++)
    expect(manager.referenceCount(block)).toBe(counts.get(block) ?? 0);
  expect(manager.usedBlocks).toBe(counts.size);
  expect(manager.freeBlocks + manager.usedBlocks).toBe(manager.numBlocks);
  for (const { table, tokens, computed } of model.holders) {
    // Every computed row still holds what this holder put or found there.
    for (let position = 0; position < computed; position++) {
      const block = table.ids[Math.floor(position / manager.blockSize)]!;
      expect(model.rows.get(block)![position % manager.blockSize]).toBe(tokens.slice(0, position + 1).join());
    }
    table.ids.forEach((block, i) => {
      if (counts.get(block)! > 1) expect(i).toBeLessThan(table.contents.length);
    });
  }
}

class Admit implements Command {
  readonly prompt: readonly number[];
  constructor(prompt: readonly number[]) {
    this.prompt = prompt;
  }
  check = () => true;
  run(model: Model, system: System): void {
    const { manager } = system;
    const holder: Holder = { table: new BlockTable(), tokens: [...this.prompt], computed: 0 };
    const free = manager.freeBlocks;
    const cached = manager.admit(holder.table, holder.tokens);
    if (cached === null) {
      expect([holder.table.length, manager.freeBlocks]).toEqual([0, free]);
      expect(manager.blocksFor(this.prompt.length)).toBeGreaterThan(free);
    } else {
      expect(cached % manager.blockSize).toBe(0);
      expect(cached).toBeLessThan(this.prompt.length);
      expect(holder.table.length).toBe(manager.blocksFor(this.prompt.length));
      holder.computed = cached;
      system.sharedTokens += cached;
      model.holders.push(holder);
    }
    checkInvariants(model, system);
  }
  toString = () => `admit(${this.prompt})`;
}

abstract class OnHolder implements Command {
  readonly pick: number;
  constructor(pick: number) {
    this.pick = pick;
  }
  check = (model: Readonly<Model>) => model.holders.length > 0;
  run(model: Model, system: System): void {
    this.act(model, system, this.pick % model.holders.length);
    checkInvariants(model, system);
  }
  abstract act(model: Model, system: System, at: number): void;
}

class Compute extends OnHolder {
  act(model: Model, system: System, at: number): void {
    const holder = model.holders[at]!;
    const pending = holder.tokens.length - holder.computed;
    compute(model, system, holder, holder.computed + Math.ceil(pending / (1 + (this.pick % 3))));
  }
  override toString = () => `compute(${this.pick})`;
}

class Append extends OnHolder {
  act(model: Model, { manager }: System, at: number): void {
    const holder = model.holders[at]!;
    const length = holder.tokens.length + 1;
    const missing = manager.blocksFor(length) - holder.table.length;
    const before = { free: manager.freeBlocks, length: holder.table.length };
    const grown = manager.grow(holder.table, length);
    expect(grown).toBe(missing <= before.free);
    expect(holder.table.length).toBe(grown ? before.length + missing : before.length);
    if (grown) holder.tokens.push(this.pick % 2);
  }
  override toString = () => `append(${this.pick})`;
}

class Release extends OnHolder {
  act(model: Model, { manager }: System, at: number): void {
    const [holder] = model.holders.splice(at, 1);
    manager.release(holder!.table);
    expect(holder!.table.length).toBe(0);
  }
  override toString = () => `release(${this.pick})`;
}

class Forget implements Command {
  check = () => true;
  run(model: Model, system: System): void {
    system.manager.forgetContents();
    checkInvariants(model, system);
    const table = new BlockTable();
    if (system.manager.admit(table, [0, 0, 0, 0, 0]) !== null) {
      expect(table.contents).toEqual([]);
      system.manager.release(table);
    }
  }
  toString = () => "forget";
}

const pick = fc.nat({ max: 100 });
const commands = fc.commands(
  [
    // Mostly equal prompts, so that prefixes are shared, and some that part ways.
    fc
      .tuple(fc.nat({ max: 7 }), fc.array(fc.nat({ max: 1 }), { minLength: 1, maxLength: 3 }))
      .map(([zeros, tail]) => new Admit([...new Array<number>(zeros).fill(0), ...tail])),
    pick.map((n) => new Compute(n)),
    pick.map((n) => new Compute(n)),
    pick.map((n) => new Append(n)),
    pick.map((n) => new Release(n)),
    fc.constant(new Forget()),
  ],
  { maxCommands: 60, size: "max" },
);

describe("as a state machine", () => {
  test.each<[string, (() => number) | undefined]>([
    ["the hash", undefined],
    ["a hash that always collides", () => 0],
  ])("with %s", (_name, hash) => {
    let shared = 0;
    fc.assert(
      fc.property(
        commands,
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 3 }),
        (list, numBlocks, blockSize) => {
          const manager = new BlockManager({ numBlocks, blockSize, ...(hash === undefined ? {} : { hash }) });
          const system = new System(manager);
          fc.modelRun(() => ({ model: { holders: [], rows: new Map() }, real: system }), list);
          shared += system.sharedTokens;
        },
      ),
      { numRuns: 300 },
    );
    // A state machine that never shares would prove little; the mean is about 300.
    expect(shared).toBeGreaterThan(30);
  });
});

describe("prefix sharing", () => {
  function admit(manager: BlockManager, tokens: number[]) {
    const table = new BlockTable();
    const cached = manager.admit(table, tokens);
    return { table, cached };
  }

  test("full blocks of a running sequence are shared, the last token never", () => {
    const manager = new BlockManager({ numBlocks: 8, blockSize: 2 });
    const first = admit(manager, [1, 2, 3, 4, 5]);
    manager.commit(first.table, [1, 2, 3, 4, 5], 5);
    const second = admit(manager, [1, 2, 3, 4]);
    expect([second.cached, manager.usedBlocks]).toEqual([2, 4]);
    expect(second.table.ids[0]).toBe(first.table.ids[0]);
  });

  test("equal tokens after a different beginning are not shared", () => {
    const manager = new BlockManager({ numBlocks: 8, blockSize: 2 });
    const first = admit(manager, [1, 2, 3, 4, 5]);
    manager.commit(first.table, [1, 2, 3, 4, 5], 5);
    expect(admit(manager, [9, 9, 3, 4, 5]).cached).toBe(0);
    expect(admit(manager, [3, 4, 5]).cached).toBe(0);
  });

  test("blocks are not shared before they are computed, nor with sharing off", () => {
    for (const prefixSharing of [true, false]) {
      const manager = new BlockManager({ numBlocks: 8, blockSize: 2, prefixSharing });
      const first = admit(manager, [1, 2, 3]);
      expect(admit(manager, [1, 2, 3]).cached).toBe(0);
      manager.commit(first.table, [1, 2, 3], 3);
      expect(admit(manager, [1, 2, 3]).cached).toBe(prefixSharing ? 2 : 0);
    }
  });

  test("a released prefix is found again until its blocks are needed, the end of it going first", () => {
    const manager = new BlockManager({ numBlocks: 4, blockSize: 1 });
    const first = admit(manager, [1, 2, 3, 4]);
    manager.commit(first.table, [1, 2, 3, 4], 4);
    manager.release(first.table);
    expect(manager.freeBlocks).toBe(4);
    const other = admit(manager, [7, 8]);
    manager.release(other.table);
    const again = admit(manager, [1, 2, 3, 4]);
    expect(again.cached).toBe(2);
  });
});
