/** How workgroups of a GPU divide the keys and heads of attention of few tokens, or of keys too wide for tiles of tokens. */
import type { Workgroup } from "../../ir/target.ts";

export interface RowSizes {
  readonly tokens: number;
  readonly heads: number;
  /** Heads of keys. */
  readonly groups: number;
  readonly keys: number;
  /** Elements of a key and of a value. */
  readonly d: number;
  readonly e: number;
}

export interface RowShares {
  /** Invocations of a team, which takes a key at a time. */
  readonly perKey: number;
  /** Query heads of a key head that a team scores each key for. */
  readonly heads: number;
  /** Teams of a workgroup that have other heads, and those of each that divide the keys. */
  readonly headTeams: number;
  readonly teams: number;
  /** Keys of a team at once. */
  readonly keysEach: number;
  /** Keys of all teams at once. */
  readonly tile: number;
  /** Heads whose sums are put together at once. */
  readonly putTogether: number;
}

export function workgroupSize({ perKey, headTeams, teams }: RowShares): number {
  return perKey * headTeams * teams;
}

/** Registers of an invocation that queries with their sums may take, and keys with their values that it asks for. */
const [mostHeld, mostAsked] = [72, 80];
/** Invocations of a workgroup: small ones, of which several are on a multiprocessor, wait less for each other. */
const invocations = 128;

/** `lanes`: elements that lie side by side in memory and are read together. */
export function rowSharesOf(sizes: RowSizes, workgroup: Workgroup, lanes: number): RowShares {
  const { d, e, keys } = sizes;
  const alone = isWhole(sizes) && sizes.tokens * sizes.heads <= mostAlone;
  const most = alone
    ? Math.min(workgroup.most ?? workgroup.invocations, 512)
    : Math.min(workgroup.invocations, invocations);
  const vectors = (perKey: number) => [d, e].map((width) => lanes * Math.ceil(width / (lanes * perKey)));
  const registers = (perKey: number) => vectors(perKey).reduce((a, b) => a + b);
  const wanted = registers(16) <= 16 ? 16 : 32;
  const perKey = Math.min(most, wanted, floorPower(Math.ceil(d / lanes)));
  const shared = sizes.heads / sizes.groups;
  const together = alone ? 1 : Math.max(1, Math.floor(mostHeld / registers(perKey)));
  const chunks = Math.ceil(shared / together);
  const heads = Math.ceil(shared / chunks);
  const asked = e < d ? vectors(perKey)[0]! : registers(perKey);
  const keysEach = Math.max(1, Math.min(4, floorPower(mostAsked / asked)));
  const given = { perKey, heads, headTeams: 1, keysEach };
  for (let teams = Math.min(most / perKey, 2 ** Math.ceil(Math.log2(Math.max(1, keys / keysEach)))); ; teams /= 2) {
    const fitting = putTogether({ ...given, teams }, sizes, workgroup);
    if (fitting > 0 || teams <= 1) {
      return { ...given, teams, tile: teams * keysEach, putTogether: Math.max(1, fitting) };
    }
  }
}

/** So few workgroups, of a head each, have a multiprocessor of their own. */
const mostAlone = 128;

const floorPower = (x: number): number => 2 ** Math.floor(Math.log2(x));

/** Heads whose sums of all teams fit into shared memory at once, beside queries, new rows and what is combined. */
function putTogether(
  { heads, headTeams, teams, perKey }: Pick<RowShares, "perKey" | "heads" | "headTeams" | "teams">,
  { d, e }: RowSizes,
  { bytes }: Workgroup,
): number {
  const all = headTeams * teams;
  const others = 4 * (heads * headTeams * d + d + e + 2 * all * heads) + 16 * all * perKey;
  return Math.min(heads, Math.floor((bytes - others) / (4 * all * e)));
}

/** Workgroups that fill a large GPU: two on a multiprocessor. */
const resident = 264;
/** Bytes of keys and values that one workgroup reads in less time than a launch that puts parts together takes. */
const mostWhole = 1 << 19;

/** Parts in which a token's keys are divided among workgroups, each with tiles in turn: as many as can run at once. */
export function attentionPartsOf(sizes: RowSizes, { tile, heads, headTeams }: RowShares): number {
  const chunks = sizes.groups * Math.ceil(sizes.heads / sizes.groups / (heads * headTeams));
  const parts = Math.min(Math.ceil(sizes.keys / tile), Math.floor(resident / (sizes.tokens * chunks)));
  return isWhole(sizes) ? 1 : Math.max(parts, 1);
}

function isWhole({ keys, d, e }: RowSizes): boolean {
  return 4 * keys * (d + e) <= mostWhole;
}
