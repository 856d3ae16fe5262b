/** A round of decoding on a line per stage: microbatches as they pass through the pipeline. */
import type { Candidate } from "./candidate.ts";
import { showSeconds } from "./show.ts";

const [width, row, left] = [940, 24, 70];
const colours = ["#2f6fb0", "#3a9d6e", "#c98a2b", "#8a5bb0", "#b0455a", "#4a8f9c", "#7a7f36", "#a0603a"];

/** An SVG, with a heading; empty for a single stage. */
export function timeline({ stages, mesh, decodeOne, decodeAll }: Candidate, batch: number): string {
  const count = stages.length;
  if (count < 2) return "";
  const own = Math.ceil(batch / mesh.dp);
  const micro = Math.min(own, count);
  // Stages are drawn alike: their weights are balanced.
  const slots = count + micro - 1;
  const slot = (width - left) / (slots + 1);
  const boxes = stages.flatMap((_, stage) =>
    Array.from({ length: micro }, (_, m) => {
      const [x, y] = [left + (stage + m) * slot, stage * (row + 4)];
      const label = `<text x="${(x + 5).toFixed(1)}" y="${y + 16}" fill="#fff">${m}</text>`;
      return `<rect x="${x.toFixed(1)}" y="${y}" width="${(slot - 2).toFixed(1)}" height="${row}" rx="3" fill="${colours[m % colours.length]}"/>${slot > 16 ? label : ""}`;
    }),
  );
  const labels = stages.map((_, i) => `<text x="0" y="${i * (row + 4) + 16}" fill="currentColor">stage ${i}</text>`);
  const height = count * (row + 4) + 4;
  const idle = 1 - micro / count;
  const said = `${micro} microbatch${micro === 1 ? "" : "es"} of ${Math.ceil(own / micro)} in flight`;
  const bubbles =
    idle > 0
      ? ` Stages are idle ${Math.round(100 * idle)} % of the time: a batch of ${count * mesh.dp} would fill them.`
      : "";
  const round = `One token alone takes ${showSeconds(1 / decodeOne)}; together a token comes every ${showSeconds(1 / decodeAll)}.`;
  return `<h2>The pipeline</h2><svg viewBox="0 0 ${width} ${height}" role="img">${labels.join("")}${boxes.join("")}</svg><p>${said}.${bubbles} ${round}</p>`;
}
