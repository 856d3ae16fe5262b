/** What the thread of a rank runs. */
import { RankGuests } from "./rank-guests.ts";
import { openRank } from "./rank-runner.ts";
import { type RankPort, serveRank } from "./serve-rank.ts";
import { SharedLink } from "./shared-link.ts";
import { postedCell } from "./shared-memory.ts";
import { rankPort } from "./threads.ts";

const { port, start, shared } = rankPort();
const guests = new RankGuests(start.rank);
const help = () => guests.help();
const link = new SharedLink(shared.memory, start.rank, { ...shared, ...start, help });
const cells = new Int32Array(shared.memory.cells);
const posted = postedCell(shared.memory, start.rank);
let answered = 0;

/** Steps follow each other closely, and waking up takes longer than a short wait; others may still be at this one. */
function lookForMore(): void {
  let end = performance.now() + shared.idleMs;
  while (performance.now() < end && Atomics.load(cells, posted) === answered) {
    if (help()) end = performance.now() + shared.idleMs;
  }
}

const patient: RankPort = {
  ...port,
  post: (message, transfer) => {
    port.post(message, transfer);
    answered = (answered + 1) | 0;
    lookForMore();
  },
};
serveRank(patient, () => openRank(start, link, guests));
