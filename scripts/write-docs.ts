/** Writes the generated parts of docs/ir.md, from the tables they document, between their markers. `npm run docs`. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { invariants } from "../src/ir/invariants.ts";
import { type OpName, opDef, ops } from "../src/ir/ops/all.ts";
import { type ScalarOpDef, scalarOps } from "../src/ir/scalar.ts";
import { dtypeInfo, dtypes, isDType } from "../src/ir/types.ts";

export const docsFile = fileURLToPath(new URL("../docs/ir.md", import.meta.url));

const parts: Readonly<Record<string, () => string>> = {
  dtypes: dtypeTable,
  ops: opTable,
  "scalar ops": scalarTable,
  invariants: () => invariants.map(({ name }) => name.replace(/^(V\d+) (\w+): (.*)$/, "- **$1 $2**: $3.")).join("\n"),
};

/** The text with each generated part renewed. Throws where a part has no markers. */
export function renewed(text: string): string {
  let result = text;
  for (const [name, generate] of Object.entries(parts)) {
    const [start, stop] = [`<!-- generated: ${name} -->\n`, "<!-- end -->"];
    const from = result.indexOf(start);
    const to = result.indexOf(stop, from);
    if (from < 0 || to < 0) throw new Error(`docs/ir.md: there are no markers for the part "${name}"`);
    result = `${result.slice(0, from)}${start}${generate()}\n${result.slice(to)}`;
  }
  return result;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function opTable(): string {
  const rows: string[][] = [];
  for (const name of Object.keys(ops)) {
    const def = opDef(name as OpName); // a key of the table
    if (def.scalar !== undefined) continue;
    const arity = def.arity === "variadic" ? "n" : String(def.arity);
    const attrs = Object.entries(def.attrs).map(([attr, kind]) => `${attr}: ${kind}`);
    rows.push([`\`${name}\``, arity, def.kind, attrs.join(", "), def.doc]);
  }
  return table(["op", "operands", "kind", "attributes", "meaning"], rows);
}

function scalarTable(): string {
  const rows = Object.entries(scalarOps).map(([name, def]: [string, ScalarOpDef]) => {
    const result = def.result === "bool" ? "bool" : "as the operands";
    return [`\`${name}\``, String(def.arity), def.operands, result, def.commutative ? "yes" : "", String(def.ulp)];
  });
  return table(["op", "operands", "of", "result", "commutative", "ulp"], rows);
}

function dtypeTable(): string {
  const rows = Object.keys(dtypes)
    .filter(isDType)
    .map((name) => {
      const { bits, kind, range } = dtypeInfo(name);
      return [`\`${name}\``, String(bits), kind, range === undefined ? "" : `${range[0]} .. ${range[1]}`];
    });
  return table(["dtype", "bits", "kind", "range"], rows);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(docsFile, renewed(readFileSync(docsFile, "utf8")));
}
