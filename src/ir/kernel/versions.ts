/**
 * A map that is never changed: adding a name gives another version. Versions that are made one of the last share their
 * table, so that adding the names of a block costs no copy; only a second one made of the same version copies.
 */

export interface Versions<T> {
  readonly get: (name: string) => T | undefined;
  readonly with: (name: string, value: T) => Versions<T>;
}

interface Entry<T> {
  readonly value: T;
  /** The number of the version that it came with. */
  readonly since: number;
  /** What the name stood for before. */
  readonly hidden: Entry<T> | undefined;
}

interface Table<T> {
  readonly entries: Map<string, Entry<T>>;
  /** The number of its last version. */
  last: number;
}

export function noVersions<T>(): Versions<T> {
  return version({ entries: new Map(), last: 0 }, 0);
}

function version<T>(table: Table<T>, number: number): Versions<T> {
  const entryOf = (name: string): Entry<T> | undefined => {
    let entry = table.entries.get(name);
    while (entry !== undefined && entry.since > number) entry = entry.hidden;
    return entry;
  };
  return {
    get: (name) => entryOf(name)?.value,
    with: (name, value) => {
      const own = table.last === number ? table : copyOf(table, number);
      own.last = number + 1;
      own.entries.set(name, { value, since: number + 1, hidden: own.entries.get(name) });
      return version(own, number + 1);
    },
  };
}

/** The table as it was with that version. */
function copyOf<T>(table: Table<T>, number: number): Table<T> {
  const entries = new Map<string, Entry<T>>();
  for (const [name, latest] of table.entries) {
    let entry: Entry<T> | undefined = latest;
    while (entry !== undefined && entry.since > number) entry = entry.hidden;
    if (entry !== undefined) entries.set(name, entry);
  }
  return { entries, last: number };
}
